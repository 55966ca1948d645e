"""A chain inside a transformers model, or one for each row: the list of layers becomes the chain."""

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import reduce
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from cola_learn.backbone.beginning import Around, Beginning
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
_INDEX_NAMES = ("layer_idx", "layer_id", "layer_index", "layer_number")


class apply_chain(AbstractContextManager[Any]):  # it is called like a function
    """Have a transformers model run a chain of its layers, from now on or for the time of a ``with`` block.

    ``generate`` with any decoding and cache, ``pipeline``, PEFT and training see a model whose list of layers is the
    chain. A layer that runs twice is there twice, with the same weights, and every visit has its own slot in the
    key-value cache. Nothing is copied but Python objects.

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
        self.model = model
        configs = list(_configs(model, depth))
        for config in configs:
            for name in _BY_PLACE:
                if getattr(config, name, None):
                    raise UserError(f"{type(model).__name__} with {name} depends on the layer index; unsupported")
        self._owner, self._name = next(
            (module, name) for module in model.modules() for name, child in module.named_children() if child is layers
        )
        self._layers = layers
        self._settings = [(config, vars(config).copy()) for config in configs]
        self._before = getattr(self._owner, _RUNS, None)
        if self._before is None:
            self._owner.register_forward_pre_hook(_check_cache, with_kwargs=True)
            self._owner.register_forward_hook(_mark_cache, with_kwargs=True)
            setattr(self._owner, _PLAIN, (str(Chain.base(depth)),))
        self.runs(self.chain)
        shared = {id(config): config for config in configs} | {id(model.config): model.config}
        moved = [_at(layers[layer], layer, place, shared) for place, layer in enumerate(self.chain.layers)]
        setattr(self._owner, self._name, nn.ModuleList(moved))
        self._counts_depth = getattr(self._owner, _FIRST_SHARED, None) == depth
        if self._counts_depth:
            setattr(self._owner, _FIRST_SHARED, self.chain.depth)
        for config in configs:
            _renumber(config, self.chain)
            config.num_hidden_layers = self.chain.depth

    def runs(self, *chains: Chain) -> None:
        """Say through which chains the rows of a batch run now, which their key-value cache remembers."""
        setattr(self._owner, _RUNS, tuple(map(str, chains)))

    def undo(self) -> None:
        """Give the model its own layers back."""
        setattr(self._owner, _RUNS, self._before or getattr(self._owner, _PLAIN))
        setattr(self._owner, self._name, self._layers)
        if self._counts_depth:
            setattr(self._owner, _FIRST_SHARED, len(self._layers))
        for config, settings in self._settings:
            vars(config).clear()
            vars(config).update(settings)

    def __enter__(self) -> Any:
        return self.model

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


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


def _configs(model: Any, depth: int) -> Iterator[Any]:
    """The configurations that say how deep the model is, each once."""
    seen: set[int] = set()
    for owner in (model, *model.modules()):
        config = getattr(owner, "config", None)
        text = config.get_text_config(decoder=True) if isinstance(config, PreTrainedConfig) else None
        if text is not None and id(text) not in seen and getattr(text, "num_hidden_layers", None) == depth:
            seen.add(id(text))
            yield text


def _renumber(config: Any, chain: Chain) -> None:
    """Say of the chain's places what a configuration says of the model's layers: lists by layer, and by their indices
    which attend and which are dense."""
    for name, value in vars(config).copy().items():
        if name in _INDICES and value:
            vars(config)[name] = [place for place, layer in enumerate(chain.layers) if layer in value]
        elif name == "first_k_dense_replace" and value:
            vars(config)[name] = sum(layer < value for layer in chain.layers)
        elif name == "decoder_sparse_step" and value:
            dense = getattr(config, "mlp_only_layers", None) or ()
            where = [place for place, layer in enumerate(chain.layers) if layer in dense or (layer + 1) % value]
            vars(config).update(decoder_sparse_step=1, mlp_only_layers=where)
        elif isinstance(value, list | tuple) and len(value) == chain.num_layers and _BY_LAYER.search(name):
            vars(config)[name] = type(value)(value[layer] for layer in chain.layers)


def _at(layer: nn.Module, index: int, place: int, shared: dict[int, Any]) -> nn.Module:
    """A layer for a place of the chain: itself where it is at home, else a copy that shares all tensors."""
    if index == place:
        return layer
    held = dict(shared)
    for module in layer.modules():
        tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False), *vars(module).values())
        held |= {id(tensor): tensor for tensor in tensors if isinstance(tensor, Tensor)}
    moved = copy.deepcopy(layer, held)
    for module in moved.modules():
        for name in _INDEX_NAMES:
            if getattr(module, name, None) == index and not isinstance(getattr(module, name), bool):
                setattr(module, name, place)
    return moved


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
        layers = find_layers(model, type(model).__name__)
        needed: list[list[int]] = [[] for _ in union]
        for row, chain in enumerate(chains):
            for place in _places(chain.layers, union):
                needed[place].append(row)
        for place, rows in enumerate(needed):
            if len(rows) < len(chains):
                layers[place] = _SomeRows(layers[place], rows, len(chains))
        if beginning and beginning.resumes:
            first = tuple(range(beginning.depth))
            if all(chain.layers[: beginning.depth] == first for chain in chains):
                for place, layer in enumerate(beginning.given(layers)):
                    layers[place] = layer
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
