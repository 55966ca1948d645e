"""Walks: rows on their way through their chains, and which of them share the next batch."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor


@dataclass(eq=False)
class Walk:
    """A row on its way through a chain: ``hidden`` ``[T, H]`` is its state after ``done`` layers.

    With ``keep_end`` other chains go on from its end.
    """

    row: Hashable
    layers: tuple[int, ...]
    hidden: Tensor
    done: int = 0
    keep_end: bool = False

    @property
    def size(self) -> int:
        return self.hidden.shape[0]

    @property
    def remaining(self) -> int:
        return len(self.layers) - self.done

    @property
    def next_layer(self) -> int:
        return self.layers[self.done]


AnyWalk = TypeVar("AnyWalk", bound=Walk)


def together(walks: Iterable[AnyWalk], room: int) -> dict[tuple[Hashable, tuple[int, ...]], list[AnyWalk]]:
    """Those of the walks, all before the same layer, whose tokens find room, by row and prefix after that layer.

    Walks of one row with one prefix are the same until they part, and run as one.
    """
    groups: dict[tuple[Hashable, tuple[int, ...]], list[AnyWalk]] = {}
    for walk in walks:
        key = (walk.row, walk.layers[: walk.done + 1])
        if key not in groups:
            if groups and walk.size > room:
                continue
            room -= walk.size
        groups.setdefault(key, []).append(walk)
    return groups
