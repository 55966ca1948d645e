"""A frozen causal LM as a list of layer functions: record once, replay any chain, finish.

No architecture is patched. The model's own forward runs with every decoder layer replaced by a stub, first to
*record* the arguments each layer is given, then, with the replayed hidden state put in, to *finish* with the
model's own norm, head, scaling and soft-capping.
"""

import contextlib
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cola_learn.backbone import attention
from cola_learn.backbone.call_sizes import call_sizes
from cola_learn.backbone.fingerprint import of_memory
from cola_learn.backbone.layers import device_of, find_layers, parameter_names, position_limit
from cola_learn.backbone.options import Bos
from cola_learn.backbone.prepacked import prepack_weights
from cola_learn.backbone.probes import (
    check_replay,
    options_can_share_a_sequence,
    rows_can_be_packed,
    rows_can_be_stacked,
)
from cola_learn.backbone.recording import MASK, Leaf, Recording, Together, map_tree
from cola_learn.backbone.rows import BUCKET, Row
from cola_learn.backbone.tokens import PromptEncoder


class _AllSeen(Exception):
    """Ends a forward with stubs once the last layer of interest has been called."""


class Backbone:
    """A frozen Hugging Face causal LM whose layers can be run in any order.

    Args:
        model: any decoder-only model in eval mode, on its device.
        tokenizer: its tokenizer.
        name: how the user named it, kept in every output.
        bos: which special tokens are written before prompts (:class:`PromptEncoder`).
        fingerprint: of the files that the model was loaded from; None takes that of its weights in memory.

    Attributes:
        num_layers: N.
        hidden_size: H.
        shares_prompts: whether the options of a question may share one sequence (plain masked attention with
            positions given per token); found out at construction by comparing the two ways.
        shared_prompt_limit: most tokens of such a sequence: the sliding window, where some layers have one.
        packing: for rows packed into one sequence, the token dimension of each argument; None where
            the architecture cannot run them so, which is found out at construction too.
        stackable: whether rows of one length may be stacked instead; if not, rows run one by one.
        places: the device that each layer runs on.
        call_tokens: most tokens in a call. On a CPU a call is best kept within the caches, a GPU wants to be filled.
        prepacked: whether the weights are kept in the order that this CPU multiplies in (``prepacked.py``).
        call_sizes: batch sizes in tokens at which results are batch-invariant: bit-identical whatever else is in the
            batch (``call_sizes.py``). Empty: none are, and batches have any size.
        exact: whether there are such sizes, so that results are batch-invariant; never on a GPU.
        threads_agree: whether one thread gives the same bits at these sizes as the present number of threads.

    Raises:
        UserError: if the decoder layers cannot be found or do not replay to the model's own logits.
    """

    def __init__(
        self, model: Any, tokenizer: Any, name: str, bos: Bos = "auto", fingerprint: str | None = None
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self._bos: Bos = bos
        self.name = name
        self._fingerprint = fingerprint
        self.layers = find_layers(model, name)
        self.num_layers = len(self.layers)
        head = model.get_output_embeddings()
        self.prepacked = prepack_weights([*self.layers, *([] if head is None else [head])])
        self.hidden_size: int = model.config.get_text_config().hidden_size
        self.places = [device_of(layer) for layer in self.layers]
        self.call_tokens = 512 if self.device.type == "cpu" else 32768
        self.call_sizes: tuple[int, ...] = ()
        self.threads_agree = False
        self._names = [parameter_names(layer) for layer in self.layers]
        self.extra_outputs = [0] * self.num_layers  # values a layer returns beside the hidden state, -1: bare tensor
        check_replay(self)
        window = getattr(model.config.get_text_config(), "sliding_window", None)
        self.shared_prompt_limit: int = window or sys.maxsize
        self.shares_prompts = options_can_share_a_sequence(self)
        self.packing = rows_can_be_packed(self, self.shares_prompts)
        self.stackable = self.packing is not None or rows_can_be_stacked(self)
        if self.packing is not None and self.device.type == "cpu":
            with contextlib.suppress(Exception):  # then nothing is promised
                self.call_sizes, self.threads_agree = call_sizes(self, self.packing)
                self.call_tokens = self.call_sizes[-1]
        self.exact = bool(self.call_sizes)

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the model was made for."""
        return position_limit(self.model.config)

    @property
    def vocabulary(self) -> int:
        """How many tokens have an embedding."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @cached_property
    def encoder(self) -> PromptEncoder:
        """Gives the token ids of prompts."""
        return PromptEncoder(self.tokenizer, self._bos, self.vocabulary)

    def write_special_tokens(self, special_tokens: str, source: str) -> None:
        """Write the special tokens before prompts that ``source``, a manifest or controller, records.

        Raises:
            UserError: if the tokenizer cannot.
        """
        self.encoder = PromptEncoder.recorded(self.tokenizer, special_tokens, source, self.vocabulary)

    def missing(self, tokens: int) -> int:
        """How many tokens a call of so many is to be filled up with."""
        return next((size - tokens for size in self.call_sizes if size >= tokens), 0)

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        return device_of(self.model.get_input_embeddings())

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def dtype_name(self) -> Any:
        """``float32``, ``bfloat16`` or ``float16``."""
        return str(self.dtype).removeprefix("torch.")

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that tell two backbones apart, the same in every precision if it was loaded from files."""
        return self._fingerprint or of_memory(self.model, self.tokenizer)

    @torch.inference_mode()
    def record(self, row: Row) -> Recording:
        """Run the model's own forward on one row with stubs for layers, keeping what each layer is given.

        Rows that cannot be packed are padded, so that more of them have one length.
        """
        bucket = BUCKET if self.packing is None else None
        return self.record_inputs(**row.model_inputs(self.device, self.dtype, bucket))

    @torch.inference_mode()
    def embed(self, row: Row) -> Tensor:
        """A row's tokens ``[T, H]`` as the first layer is given them."""
        embedded: list[Tensor] = []

        def stub(layer: int, state: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
            embedded.append(state)
            raise _AllSeen

        with self._stubbed(stub), contextlib.suppress(_AllSeen):
            self.model(use_cache=False, **row.model_inputs(self.device, self.dtype))
        return embedded[0][0]

    def record_inputs(self, **inputs: Any) -> Recording:
        """:meth:`record` for any inputs of the model's forward with batch size 1."""
        seen: list[tuple[Any, dict[str, Any]]] = []
        hidden: list[Tensor] = []
        masks: list[Tensor | None] = []
        leaves: list[Tensor] = []
        index: dict[int, Leaf] = {}
        before: list[Any] = []

        def leaf(tensor: Tensor) -> Leaf:
            if id(tensor) not in index:
                index[id(tensor)] = Leaf(len(leaves))
                leaves.append(tensor)
            return index[id(tensor)]

        def stub(layer: int, state: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
            nonlocal before
            hidden.append(state)
            masks.append(kwargs.get(MASK))
            given = [*args, *kwargs, *kwargs.values()]
            if len(given) == len(before) and all(map(operator.is_, given, before)):  # as most architectures do
                seen.append(seen[-1])
            else:
                others = {
                    name: value if name == MASK else map_tree(value, Tensor, leaf) for name, value in kwargs.items()
                }
                seen.append((map_tree(args, Tensor, leaf), others))
            before = given
            if layer == self.num_layers - 1:
                raise _AllSeen  # norm and head are of no use here
            return state

        with self._stubbed(stub), contextlib.suppress(_AllSeen):
            self.model(**{"use_cache": False, **inputs})
        return Recording(hidden[0], tuple(seen), tuple(masks), tuple(leaves))

    @torch.inference_mode()
    def run_layer(self, layer: int, hidden: Tensor, batch: Together) -> Tensor:
        """Run one decoder layer: ``[B, T, H]``, or ``[1, sum of T, H]`` for packed rows, to the same shape."""
        args, kwargs = batch.arguments(layer)
        with attention.rows(batch.layout(layer)) if batch.packed else contextlib.nullcontext():
            output = self.layers[layer](hidden, *args, **kwargs)
        return output[0] if isinstance(output, tuple | list) else output

    def run_rows(self, layer: int, hidden: Sequence[Tensor], batch: Together) -> Sequence[Tensor]:
        """:meth:`run_layer` for the states ``[T, H]`` of several rows, wherever they are."""
        here = [state.to(self.places[layer]) for state in hidden]
        if not batch.packed:
            return self.run_layer(layer, torch.stack(here), batch).unbind()
        joined = here[0] if len(here) == 1 else torch.cat(here)
        return self.run_layer(layer, joined[None], batch)[0].split([len(state) for state in here])

    @torch.inference_mode()
    def finish(self, hidden: Tensor, alone: bool = False) -> Tensor:
        """Logits of final hidden states: ``[P, H]`` to ``[P, V]``, through the model's own norm and head.

        They are filled up to one of ``call_sizes``, unless they are ``alone``.
        """
        if len(hidden) > self.max_tokens:  # more than the model's own forward could number
            return torch.cat([self.finish(part, alone) for part in hidden.split(self.max_tokens)])
        count = len(hidden)
        missing = 0 if alone else min(self.missing(count), self.max_tokens - count)
        if missing:
            hidden = torch.cat([hidden, hidden[-1:].expand(missing, -1)])

        def stub(layer: int, state: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
            return hidden.unsqueeze(0) if layer == 0 else state

        tokens = torch.zeros(1, hidden.shape[0], dtype=torch.long, device=self.device)
        with self._stubbed(stub):
            logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits[0, :count]

    @contextlib.contextmanager
    def _stubbed(self, stub: Callable[[int, Tensor, tuple[Any, ...], dict[str, Any]], Tensor]) -> Iterator[None]:
        """Replace every layer's forward by ``stub(layer, hidden, args, kwargs)`` for the time of the block."""

        def bind(index: int) -> Callable[..., Any]:
            names = self._names[index]

            def forward(*args: Any, **kwargs: Any) -> Any:
                kwargs |= dict(zip(names, args, strict=False))
                state = kwargs.pop(names[0])
                output = stub(index, state, args[len(names) :], kwargs)
                extra = self.extra_outputs[index]
                return output if extra < 0 else (output, *[None] * extra)

            return forward

        own = [layer.__dict__.get("forward") for layer in self.layers]  # accelerate's hooks live there
        try:
            for index, layer in enumerate(self.layers):
                layer.__dict__["forward"] = bind(index)  # past the checks that a module makes of what it is given
            yield
        finally:
            for layer, forward in zip(self.layers, own, strict=True):
                if forward is None:
                    layer.__dict__.pop("forward", None)
                else:
                    layer.__dict__["forward"] = forward

    def probe_tokens(self, *shape: int) -> Tensor:
        """Random token ids, always the same, to try the model with."""
        vocabulary = self.model.config.get_text_config().vocab_size
        generator = torch.Generator().manual_seed(0)
        return torch.randint(3, vocabulary, shape, generator=generator).to(self.device)
