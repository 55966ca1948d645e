"""A frozen causal LM as a list of layer functions: record once, replay any chain, finish.

No architecture is patched. The model's own forward runs with every decoder layer replaced by a stub, first to
*record* the arguments each layer is given, then, with the replayed hidden state put in, to *finish* with the
model's own norm, head, scaling and soft-capping.
"""

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cola_learn.backbone import attention
from cola_learn.backbone.attention import prepack_weights
from cola_learn.backbone.layers import device_of, find_layers, parameter_names, position_limit
from cola_learn.backbone.recording import MASK, Leaf, Recording, Together, map_tree
from cola_learn.backbone.rows import Row


class _AllSeen(Exception):
    """Ends a forward with stubs once the last layer of interest has been called."""


class Replay:
    """A model whose layers can be run in any order.

    Args:
        model: any decoder-only model in eval mode, on its device.
        name: how the user named it.

    Attributes:
        layers: its decoder layers.
        num_layers: N.
        hidden_size: H.
        places: the device that each layer runs on.
        own_logits: of the model itself for ``probe_tokens(1, 8)``, ``[8, V]``.
        prepacked: whether the weights are kept in the order that this CPU multiplies in (``prepacked.py``).

    Raises:
        UserError: if the decoder layers cannot be found.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name = name
        self.layers = find_layers(model, name)
        self.num_layers = len(self.layers)
        head = model.get_output_embeddings()
        self.prepacked = prepack_weights([*self.layers, *([] if head is None else [head])])
        self.hidden_size: int = model.config.get_text_config().hidden_size
        self.places = [device_of(layer) for layer in self.layers]
        self._names = [parameter_names(layer) for layer in self.layers]
        self._extra_outputs, self.own_logits = self._tried()

    @torch.inference_mode()
    def _tried(self) -> tuple[list[int], Tensor]:
        """How many values each layer returns beside the hidden state, -1 for a bare tensor, and the logits."""
        counts = [0] * self.num_layers

        def watch(index: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                counts[index] = len(output) - 1 if isinstance(output, tuple | list) else -1

            return hook

        hooks = [layer.register_forward_hook(watch(index)) for index, layer in enumerate(self.layers)]
        try:
            logits: Tensor = self.model(input_ids=self.probe_tokens(1, 8), use_cache=False).logits[0]
        finally:
            for hook in hooks:
                hook.remove()
        return counts, logits

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the model was made for."""
        return position_limit(self.model.config)

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

    @torch.inference_mode()
    def record(self, row: Row, bucket: int | None = None) -> Recording:
        """Run the model's own forward on one row with stubs for layers, keeping what each layer is given.

        With ``bucket`` the row is padded to a multiple of it, so that more rows have one length.
        """
        return self.record_inputs(**row.model_inputs(self.device, self.dtype, bucket))

    def record_inputs(self, **inputs: Any) -> Recording:
        """``record`` for any inputs of the model's forward with batch size 1."""
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
        """``run_layer`` for the states ``[T, H]`` of several rows, wherever they are."""
        here = [state.to(self.places[layer]) for state in hidden]
        if not batch.packed:
            return self.run_layer(layer, torch.stack(here), batch).unbind()
        joined = here[0] if len(here) == 1 else torch.cat(here)
        return self.run_layer(layer, joined[None], batch)[0].split([len(state) for state in here])

    @torch.inference_mode()
    def finish(self, hidden: Tensor) -> Tensor:
        """Logits of final hidden states: ``[P, H]`` to ``[P, V]``, through the model's own norm and head."""
        if len(hidden) > self.max_tokens:  # more than the model's own forward could number
            return torch.cat([self.finish(part) for part in hidden.split(self.max_tokens)])

        def stub(layer: int, state: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
            return hidden.unsqueeze(0) if layer == 0 else state

        tokens = torch.zeros(1, len(hidden), dtype=torch.long, device=self.device)
        with self._stubbed(stub):
            logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits[0]

    @contextlib.contextmanager
    def _stubbed(self, stub: Callable[[int, Tensor, tuple[Any, ...], dict[str, Any]], Tensor]) -> Iterator[None]:
        """Replace every layer's forward by ``stub(layer, hidden, args, kwargs)`` for the time of the block."""

        def bind(index: int) -> Callable[..., Any]:
            names = self._names[index]

            def forward(*args: Any, **kwargs: Any) -> Any:
                kwargs |= dict(zip(names, args, strict=False))
                state = kwargs.pop(names[0])
                output = stub(index, state, args[len(names) :], kwargs)
                extra = self._extra_outputs[index]
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
