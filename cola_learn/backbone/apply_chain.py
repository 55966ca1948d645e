"""A chain inside a transformers model: the layer list becomes the chain, and everything in transformers still works."""

import copy
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from cola_learn.backbone.layers import find_layers
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
