"""The arguments that a model passes to its layers for one row, and these arguments batched over rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor

from cola_learn.backbone.attention import Group

MASK = "attention_mask"


@dataclass(frozen=True)
class Leaf:
    """Stands for ``leaves[index]`` of a recording."""

    index: int


@dataclass(frozen=True, eq=False)
class Recording:
    """What the model gives its layers for one row of T tokens.

    Attributes:
        hidden: the embedded input, ``[1, T, H]``.
        calls: for each layer its positional arguments after the hidden state and its keyword arguments but the
            mask, every tensor replaced by a :class:`Leaf`.
        masks: for each layer the attention mask it was given, ``[1, 1, T, T]`` or None.
        leaves: the distinct tensors among the arguments; most architectures give all layers the same few.
    """

    hidden: Tensor
    calls: tuple[tuple[Any, dict[str, Any]], ...]
    masks: tuple[Tensor | None, ...]
    leaves: tuple[Tensor, ...]


class Together(Protocol):
    """Rows that run through layers together, stacked or packed."""

    @property
    def packed(self) -> bool: ...

    def arguments(self, layer: int) -> tuple[Any, dict[str, Any]]:
        """Positional and keyword arguments of a layer for all rows, the hidden state aside."""

    def layout(self, layer: int) -> Sequence[Group]:
        """How rows packed attend in a layer."""


class Batch:
    """Recordings of several rows, run together. What is joined is kept, for the layers to come.

    Args:
        recordings: of the rows. Without ``packing`` they have one length and are stacked, ``[B, T, H]``.
        packing: pack the rows instead, ``[1, sum of T, H]``: for each leaf the dimension that runs
            over tokens, or None where a leaf has none.
    """

    def __init__(self, recordings: Sequence[Recording], packing: Sequence[int | None] | None = None) -> None:
        self._recordings = recordings
        self._packing = packing
        self._leaves: dict[int, Tensor] = {}
        self._masks: dict[tuple[int, ...], Tensor | None] = {}
        self._layouts: dict[tuple[int, ...], Sequence[Group]] = {}

    @property
    def packed(self) -> bool:
        return self._packing is not None

    @cached_property
    def lengths(self) -> list[int]:
        return [recording.hidden.shape[1] for recording in self._recordings]

    def arguments(self, layer: int) -> tuple[Any, dict[str, Any]]:
        """See :class:`Together`."""
        args, kwargs = self._recordings[0].calls[layer]
        joined = map_tree(kwargs, Leaf, self._leaf)
        if MASK in kwargs:
            joined[MASK] = None if self.packed else self._mask(layer)
        return map_tree(args, Leaf, self._leaf), joined

    def layout(self, layer: int) -> Sequence[Group]:
        """See :class:`Together`; neighbours of one length are one group."""
        masks = [recording.masks[layer] for recording in self._recordings]
        key = tuple(map(id, masks))  # layers of one kind are given the same masks
        if key not in self._layouts:
            groups = []
            pairs = zip(self.lengths, masks, strict=True)
            for (length, _), same in groupby(pairs, lambda pair: (pair[0], pair[1] is None)):
                members = [mask for _, mask in same]
                groups.append(Group(len(members), length, _stack(members)))
            self._layouts[key] = groups
        return self._layouts[key]

    def _mask(self, layer: int) -> Tensor | None:
        masks = [recording.masks[layer] for recording in self._recordings]
        key = tuple(map(id, masks))
        if key not in self._masks:
            self._masks[key] = _stack(masks)
        return self._masks[key]

    def _leaf(self, leaf: Leaf) -> Tensor:
        if leaf.index not in self._leaves:
            self._leaves[leaf.index] = self._join(
                [recording.leaves[leaf.index] for recording in self._recordings], leaf
            )
        return self._leaves[leaf.index]

    def _join(self, tensors: Sequence[Tensor], leaf: Leaf) -> Tensor:
        if self._packing is not None:
            dimension = self._packing[leaf.index]
            return tensors[0] if dimension is None else torch.cat(list(tensors), dimension)
        # Recorded one row at a time, so a leading dimension of 1 is the row; anything else is shared.
        if tensors[0].dim() and tensors[0].shape[0] == 1:
            return torch.cat(list(tensors))
        return tensors[0]


def _stack(masks: Sequence[Tensor | None]) -> Tensor | None:
    present = [mask for mask in masks if mask is not None]
    return torch.cat(present) if present else None


def token_dimensions(one: Recording, other: Recording) -> tuple[int | None, ...] | None:
    """The dimension of each leaf that runs over tokens, from recordings of two lengths; None if unclear."""
    short, long = one.hidden.shape[1], other.hidden.shape[1]
    if len(one.leaves) != len(other.leaves):
        return None
    dimensions: list[int | None] = []
    for first, second in zip(one.leaves, other.leaves, strict=True):
        if first.dim() != second.dim():
            return None
        changed = [place for place in range(first.dim()) if first.shape[place] != second.shape[place]]
        if len(changed) > 1 or any((first.shape[d], second.shape[d]) != (short, long) for d in changed):
            return None
        dimensions.append(changed[0] if changed else None)
    return tuple(dimensions)


def map_tree(tree: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """A copy of nested tuples, lists and dictionaries with every ``kind`` in it replaced."""
    if isinstance(tree, kind):
        return function(tree)
    if type(tree) in (tuple, list):
        return type(tree)(map_tree(item, kind, function) for item in tree)
    if type(tree) is dict:
        return {key: map_tree(item, kind, function) for key, item in tree.items()}
    return tree
