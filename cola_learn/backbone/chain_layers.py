"""A model's layers in the order of a chain, as its list of layers holds them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

_INDEX_NAMES = ("layer_idx", "layer_id", "layer_index", "layer_number")


class ChainLayers(nn.ModuleList):
    """Iterates over the visits of a chain; its children are all of the model's own layers, under their own names.

    So whatever is done to the model under a chain (training mode, devices, adapters, hooks, quantization, saving) is
    done to every layer once, and what is done to a layer is done to all its visits.

    Args:
        own: the model's list of layers, whose children it shares; or a chain of them.
        order: indices in ``own``, C of them.

    Attributes:
        own: the model's own list.
        order: index of the layer of each visit in the model's own list, C of them.
        before: attributes of the model's parts that are others under the chain: owner, name, own value.
    """

    own: nn.ModuleList
    order: tuple[int, ...]

    def __init__(self, own: nn.ModuleList, order: Sequence[int]) -> None:
        super().__init__()
        if isinstance(own, ChainLayers):
            order = [own.order[index] for index in order]
            own = own.own
        self.__dict__["own"] = own  # not a child
        self._modules = own._modules
        self.order = tuple(order)
        self._names = tuple(own._modules)
        self.before: Sequence[tuple[Any, str, Any]] = ()
        self._around: dict[int, nn.Module] = {}
        self._visits = {
            place: _Visit(own._modules, self._names[index], index, place)
            for place, index in enumerate(self.order)
            if place != index
        }

    def put(self, place: int, around: nn.Module) -> None:
        """Have a visit run through what is put around it."""
        self._around[place] = around

    @property
    def of_rows(self) -> bool:
        """Whether rows of a batch differ in what they run."""
        return bool(self._around)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[nn.Module]:
        return map(self._at, range(len(self)))

    def __getitem__(self, place: Any) -> Any:
        places = range(len(self))[place]
        return self._at(places) if isinstance(places, int) else list(map(self._at, places))

    def _at(self, place: int) -> nn.Module:
        if place in self._around:
            return self._around[place]
        if place in self._visits:
            return self._visits[place]
        found = self._modules[self._names[place]]
        assert found is not None
        return found


class _Visit(nn.Module):
    """A layer at a place of the chain that is not its own: for the time of a call it has the index of the place, and
    with it a slot of its own in the key-value cache."""

    def __init__(self, layers: Mapping[str, nn.Module | None], name: str, index: int, place: int) -> None:
        super().__init__()
        self._layers, self._name, self._index, self._place = layers, name, index, place
        self._known: tuple[nn.Module, list[tuple[nn.Module, str]]] | None = None

    @property
    def _layer(self) -> nn.Module:
        found = self._layers[self._name]
        assert found is not None
        return found

    def _indexed(self, layer: nn.Module) -> list[tuple[nn.Module, str]]:
        """The attributes that hold the layer's index."""
        if self._known is None or self._known[0] is not layer:
            found = [
                (module, name) for module in layer.modules() for name in _INDEX_NAMES if self._is_index(module, name)
            ]
            self._known = (layer, found)
        return self._known[1]

    def _is_index(self, module: nn.Module, name: str) -> bool:
        value = vars(module).get(name)
        return value == self._index and not isinstance(value, bool)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        layer = self._layer
        indexed = self._indexed(layer)
        for module, name in indexed:
            vars(module)[name] = self._place
        try:
            return layer(*args, **kwargs)
        finally:
            for module, name in indexed:
                vars(module)[name] = self._index

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # such as the kind of its attention, which some models ask their layers for
            return getattr(vars(self)["_layers"][self._name], name)
