"""A chain inside a transformers model, or one for each row: the list of layers becomes the chain."""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial, reduce
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from cola_learn.backbone.beginning import Around, Beginning
from cola_learn.backbone.chain_layers import ChainLayers
from cola_learn.backbone.layers import find_layers
from cola_learn.backbone.recording import map_tree
from cola_learn.chains import Chain
from cola_learn.errors import UserError

_FIRST_SHARED = "first_kv_shared_layer_idx"  # of Gemma models; where none is shared, the number of layers
# Settings with which a layer computes otherwise at another place.
_BY_PLACE = (
    "num_kv_shared_layers",
    "scale_attn_by_inverse_layer_idx",
    "hidden_size_per_layer_input",
    "attn_layer_period",
)
_BY_LAYER = re.compile("(?<!mlp_only_)layer|moe_|expert")  # in the names of lists with an entry for each layer
_INDICES = ("attn_layer_indices", "moe_layers")
_RUNS = "_runs_chains"  # of what holds the layers, and of caches: the chains of the rows, as text
_PLAIN = "_plain_chain"
_MISSING = ...  # an attribute that was not there; of this there is one only, in copies too


class apply_chain(AbstractContextManager[Any]):  # it is called like a function
    """Have a transformers model run a chain of its layers, from now on or for the time of a ``with`` block.

    ``generate`` with any decoding and cache, ``pipeline``, PEFT and training see a model whose list of layers is the
    chain. A layer that runs twice is the same module both times, and every visit has its own slot in the key-value
    cache. Nothing is copied. Names of weights stay those of the model's own layers, skipped ones too, and
    ``save_pretrained`` writes the whole model: a chain changes what runs, not what the model is.

    For the time of the chain the model is called ``NAME (chain CHAIN)``, so that what loads a model anew by its name,
    as a reference model of preference training, is refused instead of running other layers.

    Args:
        model: a causal LM of transformers.
        chain: which layers run; as text, such as ``"0-11 14-19 (20)x2 21-29"``, or a ``Chain``.

    Attributes:
        model: the same model.
        chain: what it runs now.

    Raises:
        UserError: if the chain is not for this model, or what a layer is depends on its index.

    Example:
        >>> with apply_chain(model, "0-17 20-29"):
        ...     model.generate(**tokenizer("Plants need", return_tensors="pt"))
    """

    def __init__(self, model: Any, chain: Chain | str) -> None:
        layers = find_layers(model, type(model).__name__)
        depth = len(layers)
        try:
            self.chain = Chain.parse(chain, depth) if isinstance(chain, str) else chain
        except ValueError as error:
            raise UserError(str(error)) from None
        if self.chain.num_layers != depth:
            raise UserError(f"chain {self.chain} is for {self.chain.num_layers} layers; the model has {depth}")
        self._configs = _configs(model, depth)
        for config in self._configs:
            for name in _BY_PLACE:
                if getattr(config, name, None):
                    raise UserError(f"{type(model).__name__} with {name} depends on the layer index; unsupported")
        if isinstance(layers, ChainLayers) and layers.of_rows:
            raise UserError("rows of the model's batches run chains of their own; no other can be applied within")
        self.model = model
        self._owner, self._name = next(
            (module, name) for module in model.modules() for name, child in module._modules.items() if child is layers
        )
        self._own = layers
        self._before: list[tuple[Any, str, Any]] = []
        self._apply()

    def _apply(self) -> None:
        """Change the model; ``_before`` keeps what its attributes were."""
        if not hasattr(self._owner, _PLAIN):
            self._owner.register_forward_pre_hook(_check_cache, with_kwargs=True)
            self._owner.register_forward_hook(_mark_cache, with_kwargs=True)
            for name in (_PLAIN, _RUNS):
                setattr(self._owner, name, (str(Chain.base(self.chain.num_layers)),))
        for config in self._configs:
            depth = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
            for name, value in {**_renumbered(config, self.chain), depth: self.chain.depth}.items():
                self._set(config, name, value)
        named = [module for module in self.model.modules() if isinstance(module, PreTrainedModel)]
        for config in {id(model.config): model.config for model in named}.values():
            self._set(config, "_name_or_path", f"{config.name_or_path} (chain {self.chain})")
        for model in named:
            self._set(model, "name_or_path", f"{model.name_or_path} (chain {self.chain})")
            self._set(model, "save_pretrained", partial(_save_whole, model))
        self.layers = ChainLayers(self._own, self.chain.layers)
        self.layers.before = [*getattr(self._own, "before", ()), *self._before]
        if getattr(self._owner, _FIRST_SHARED, None) == self.chain.num_layers:
            self._set(self._owner, _FIRST_SHARED, self.chain.depth)
        self._set(self._owner, _RUNS, (str(self.chain),))
        setattr(self._owner, self._name, self.layers)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, vars(owner).get(name, _MISSING)))
        vars(owner)[name] = value

    def runs(self, *chains: Chain) -> None:
        """Say through which chains the rows of a batch run now, which their key-value cache remembers."""
        setattr(self._owner, _RUNS, tuple(map(str, chains)))

    def undo(self) -> None:
        """Give the model its own layers back; nothing more if they are back already.

        Raises:
            RuntimeError: if another chain was applied since, which has to be undone first.
        """
        if not self._before:
            return
        if getattr(self._owner, self._name) is not self.layers:
            raise RuntimeError(f"chain {self.chain} cannot be undone: another was applied since; undo that one first")
        setattr(self._owner, self._name, self._own)
        while self._before:
            _restore(*self._before.pop())

    def __enter__(self) -> Any:
        if not self._before:
            self._apply()
        return self.model

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def _restore(owner: Any, name: str, before: Any) -> None:
    if before is _MISSING:
        vars(owner).pop(name, None)
    else:
        vars(owner)[name] = before


def _save_whole(model: PreTrainedModel, *args: Any, **kwargs: Any) -> None:
    """``save_pretrained`` of a model under a chain: all of its layers, and its own configuration."""
    layers = _chain_layers(model)
    now = [(owner, name, vars(owner).get(name, _MISSING)) for owner, name, _ in layers.before]
    for changed in reversed(layers.before):
        _restore(*changed)
    try:
        type(model).save_pretrained(model, *args, **kwargs)
    finally:
        for changed in now:
            _restore(*changed)


def _chain_layers(model: PreTrainedModel) -> ChainLayers:
    found = find_layers(model, type(model).__name__)
    assert isinstance(found, ChainLayers)
    return found


def chain_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights of a model under a chain by the names of its visits, as a model has them that is made of these
    layers alone; those of further visits are copied, since a file holds each tensor under one name."""
    layers = _chain_layers(model)
    prefix = next(name for name, module in model.named_modules() if module is layers)
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        place, dot, rest = name.removeprefix(f"{prefix}.").partition(".")
        if name.startswith(f"{prefix}.") and dot:
            visits = [visit for visit, index in enumerate(layers.order) if index == int(place)]
            found |= {f"{prefix}.{visit}.{rest}": tensor if visit == visits[0] else tensor.clone() for visit in visits}
        else:
            found[name] = tensor
    return found


def _check_cache(module: nn.Module, args: Any, kwargs: Any) -> None:
    """Refuse keys and values that another chain wrote: at the same place of the list they are of other layers.

    Raises:
        ValueError: naming both chains.
    """
    cache = kwargs.get("past_key_values")
    if not hasattr(cache, "get_seq_length"):
        return
    runs, wrote = getattr(module, _RUNS), getattr(cache, _RUNS, None)
    try:
        length = int(cache.get_seq_length())
    except ValueError:  # one that keeps no keys, and does not know
        length = 0 if wrote is None else 1
    if length == 0:
        setattr(cache, _RUNS, runs)
    elif (wrote or getattr(module, _PLAIN)) != runs:
        names = [" and ".join(chains) for chains in (wrote or getattr(module, _PLAIN), runs)]
        raise ValueError(
            f"past_key_values were written through chain {names[0]}, and the model runs {names[1]}; go on through the "
            "same chain, or begin without a cache"
        )


def _mark_cache(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    cache = getattr(output, "past_key_values", None)
    if hasattr(cache, "get_seq_length"):
        setattr(cache, _RUNS, getattr(module, _RUNS))


def _configs(model: Any, depth: int) -> list[Any]:
    """The configurations that say how deep the model is, each once."""
    every = {id(config): config for owner in (model, *model.modules()) if (config := getattr(owner, "config", None))}
    configs = [config for config in every.values() if isinstance(config, PreTrainedConfig)]
    texts = {id(text): text for config in configs if (text := config.get_text_config(decoder=True)) is not None}
    return [text for text in texts.values() if getattr(text, "num_hidden_layers", None) == depth]


def _renumbered(config: Any, chain: Chain) -> dict[str, Any]:
    """What a configuration says of the model's layers, said of the chain's places: lists by layer, and by their indices
    which attend and which are dense."""
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name in _INDICES and value:
            found[name] = [place for place, layer in enumerate(chain.layers) if layer in value]
        elif name == "first_k_dense_replace" and value:
            found[name] = sum(layer < value for layer in chain.layers)
        elif name == "decoder_sparse_step" and value:
            dense = getattr(config, "mlp_only_layers", None) or ()
            where = [place for place, layer in enumerate(chain.layers) if layer in dense or (layer + 1) % value]
            found |= {name: 1, "mlp_only_layers": where}
        elif isinstance(value, list | tuple) and len(value) == chain.num_layers and _BY_LAYER.search(name):
            found.setdefault(name, type(value)(value[layer] for layer in chain.layers))
    return found


@contextmanager
def apply_chains(model: Any, chains: Sequence[Chain], beginning: Beginning | None = None) -> Iterator[Any]:
    """Within the block, row ``i`` of every batch runs ``chains[i]``.

    In a batch of ``k`` times as many rows, as for several samples a prompt, each chain has ``k`` neighbouring rows.

    The model runs the shortest list of layers that holds all chains. A layer is given only the rows that need it, and
    its slot in the key-value cache holds only these, so what reorders a whole cache, as beams do, cannot be used.

    Args:
        model: a causal LM of transformers.
        chains: one for each row, of this model.
        beginning: what the first layers made of the batch, if they have run: where all chains begin with them they are
            not run again.

    Raises:
        UserError: as ``apply_chain``.
    """
    union = reduce(supersequence, dict.fromkeys(chain.layers for chain in chains))
    with (applied := apply_chain(model, Chain(union, chains[0].num_layers))):
        applied.runs(*(chains if len(set(chains)) > 1 else chains[:1]))
        layers = applied.layers
        needed: list[list[int]] = [[] for _ in union]
        for row, chain in enumerate(chains):
            for place in _places(chain.layers, union):
                needed[place].append(row)
        for place, rows in enumerate(needed):
            if len(rows) < len(chains):
                layers.put(place, _SomeRows(layers[place], rows, len(chains)))
        if beginning and beginning.resumes:
            first = tuple(range(beginning.depth))
            if all(chain.layers[: beginning.depth] == first for chain in chains):
                for place, layer in enumerate(beginning.given(layers)):
                    layers.put(place, layer)
        yield model


def supersequence(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """A shortest sequence that holds both, by dynamic programming."""
    rest = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]  # the length of what is behind each pair of places
    for a in range(len(one), -1, -1):
        for b in range(len(other), -1, -1):
            if a == len(one) or b == len(other):
                rest[a][b] = len(one) - a + len(other) - b
            elif one[a] == other[b]:
                rest[a][b] = 1 + rest[a + 1][b + 1]
            else:
                rest[a][b] = 1 + min(rest[a + 1][b], rest[a][b + 1])
    found, a, b = [], 0, 0
    while a < len(one) and b < len(other):
        if one[a] == other[b]:
            found.append(one[a])
            a, b = a + 1, b + 1
        elif rest[a + 1][b] <= rest[a][b + 1]:
            found.append(one[a])
            a += 1
        else:
            found.append(other[b])
            b += 1
    return (*found, *one[a:], *other[b:])


def _places(layers: Sequence[int], union: Sequence[int]) -> Iterator[int]:
    """Where a sequence lies within one that holds it."""
    place = 0
    for layer in layers:
        while union[place] != layer:
            place += 1
        yield place
        place += 1


class _SomeRows(Around):
    """A layer that some rows of a batch run; the others pass by unchanged."""

    def __init__(self, layer: nn.Module, rows: Sequence[int], batch: int) -> None:
        super().__init__(layer)
        self._rows, self._batch = rows, batch

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        each = hidden.shape[0] // self._batch
        index = torch.tensor([row * each + more for row in self._rows for more in range(each)], device=hidden.device)

        batch, tokens = hidden.shape[:2]

        def own(value: Tensor) -> Tensor:
            of_tokens = value.dim() == 2 and batch == tokens != value.shape[1]  # not of the batch, which is as large
            return value if value.dim() < 2 or len(value) != batch or of_tokens else value[index]

        args, kwargs = map_tree((args, kwargs), Tensor, own)
        output = self.layer(hidden[index], *args, **kwargs)
        state = output[0] if isinstance(output, tuple | list) else output
        whole = hidden.index_copy(0, index, state)
        return (whole, *output[1:]) if isinstance(output, tuple | list) else whole
