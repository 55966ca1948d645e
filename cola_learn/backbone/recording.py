"""The arguments that a model passes to its layers for one row, and these arguments batched over rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cola_learn.backbone.attention import Group, Padding

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
            mask, every tensor replaced by a ``Leaf``.
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
        bucket: rows packed attend together if their lengths, rounded up to a multiple of this, are the same. A CPU is
            best left without padding; on a GPU, where every call takes a while to start, fewer are better.
    """

    def __init__(
        self, recordings: Sequence[Recording], packing: Sequence[int | None] | None = None, bucket: int = 1
    ) -> None:
        self._recordings = recordings
        self._packing = packing
        self._bucket = bucket
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
        """See ``Together``."""
        args, kwargs = self._recordings[0].calls[layer]
        joined = map_tree(kwargs, Leaf, self._leaf)
        if MASK in kwargs:
            joined[MASK] = None if self.packed else self._mask(layer)
        return map_tree(args, Leaf, self._leaf), joined

    def layout(self, layer: int) -> Sequence[Group]:
        """See ``Together``; neighbours of about one length are one group."""
        masks = [recording.masks[layer] for recording in self._recordings]
        key = tuple(map(id, masks))  # layers of one kind are given the same masks
        if key not in self._layouts:
            groups = []
            pairs = zip(self.lengths, masks, strict=True)
            for _, same in groupby(pairs, lambda pair: (-(-pair[0] // self._bucket), pair[1] is None)):
                lengths, members = zip(*same, strict=True)
                groups.append(_group(lengths, members, self._recordings[0].hidden.device))
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


def _group(lengths: Sequence[int], masks: Sequence[Tensor | None], device: torch.device) -> Group:
    """Rows of these lengths, padded behind where they differ: a causal mask hides padding by itself."""
    longest = max(lengths)
    if min(lengths) == longest:
        return Group(len(lengths), longest, _stack(masks))
    starts = torch.tensor([0, *accumulate(lengths)])[:-1, None]
    own = torch.tensor(lengths)[:, None]
    places = torch.arange(longest)[None]
    spread = (starts + torch.minimum(places, own - 1)).flatten()
    joined = (places < own).flatten().nonzero()[:, 0]
    whole = _stack([None if mask is None else _widened(mask, longest) for mask in masks])
    return Group(len(lengths), longest, whole, None, Padding(spread.to(device), joined.to(device)))


def _widened(mask: Tensor, length: int) -> Tensor:
    """A mask ``[1, 1, T, T]`` for a row padded to ``length``: nothing sees the padding, which sees everything."""
    more = length - mask.shape[-1]
    hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    wide = nn.functional.pad(mask, (0, more), value=hidden)
    return nn.functional.pad(wide, (0, 0, 0, more), value=mask.dtype == torch.bool)


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
