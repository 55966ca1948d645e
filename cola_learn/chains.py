"""The chain of layers: which decoder layers run, in which order.

A chain is a tuple of layer indices. The base chain ``0..N-1`` is the plain model; every other chain is
described by the edits that lead to it. Notation follows CoLa (arXiv 2507.07996): *skip* drops a block of
layers, *repeat* loops over it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

MOST_DEPTH = 16  # times N: a chain that is read from text or a file and runs more layers is a mistake


@dataclass(frozen=True, slots=True, order=True)
class Skip:
    """Leave out ``length`` layers beginning with ``start``."""

    start: int
    length: int = 1

    def __post_init__(self) -> None:
        if self.start < 0 or self.length < 1:
            raise ValueError(f"{self}: start must be at least 0 and length at least 1")


@dataclass(frozen=True, slots=True, order=True)
class Repeat:
    """Run the block of ``length`` layers beginning with ``start`` ``times`` times in all (2 = run twice)."""

    start: int
    length: int = 1
    times: int = 2

    def __post_init__(self) -> None:
        if self.start < 0 or self.length < 1 or self.times < 2:
            raise ValueError(f"{self}: start must be at least 0, length at least 1 and times at least 2")


Edit = Skip | Repeat


def _edit_order(edit: Edit) -> int:
    return edit.start


@dataclass(frozen=True, slots=True)
class Chain:
    """Layer indices in the order in which they run, and the depth N of the backbone they belong to.

    Raises:
        ValueError: if the chain is empty or names a layer outside ``0..num_layers-1``.
    """

    layers: tuple[int, ...]
    num_layers: int
    _hash: int = field(init=False, repr=False, compare=False)  # searches keep millions of chains in dicts

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a chain needs at least one layer")
        low, high = min(self.layers), max(self.layers)
        if low < 0 or high >= self.num_layers:
            wrong = low if low < 0 else high
            raise ValueError(f"layer {wrong} is not in the backbone: its layers are 0 to {self.num_layers - 1}")
        object.__setattr__(self, "_hash", hash(self.layers))

    @classmethod
    def base(cls, num_layers: int) -> "Chain":
        """The plain model: every layer once, in order."""
        return cls(tuple(range(num_layers)), num_layers)

    @classmethod
    def from_edits(cls, edits: Sequence[Edit], num_layers: int) -> "Chain":
        """Apply disjoint edits, given in indices of the base chain, in any order.

        Raises:
            ValueError: if two edits share a layer or an edit reaches past the last layer.
        """
        layers: list[int] = []
        position = 0
        for edit in sorted(edits, key=_edit_order):
            end = edit.start + edit.length
            if edit.start < position:
                raise ValueError(f"{edit} shares layer {edit.start} with another edit; edits must be disjoint")
            if end > num_layers:
                raise ValueError(f"{edit} reaches layer {end - 1}; the last layer is {num_layers - 1}")
            layers.extend(range(position, edit.start))
            if isinstance(edit, Repeat):
                layers.extend(list(range(edit.start, end)) * edit.times)
            position = end
        layers.extend(range(position, num_layers))
        return cls(tuple(layers), num_layers)

    @classmethod
    def parse(cls, text: str, num_layers: int) -> "Chain":
        """Read the form that ``str(chain)`` writes, for example ``0-11 14-19 (20)x2 21-29``.

        Raises:
            ValueError: naming the part that cannot be read, or with which it gets deeper than any use.
        """
        layers: list[int] = []
        for part in text.split():
            match = re.fullmatch(r"(\()?([0-9]{1,9})(?:-([0-9]{1,9}))?(?(1)\)x([0-9]+))", part)
            where = f"{part[:40]!r} in chain {text[:60]!r}"
            if match is None:
                raise ValueError(f"cannot read {where}; write 7, 0-11 or (20-22)x3")
            first, last = int(match[2]), int(match[3] or match[2])
            if last < first:
                raise ValueError(f"{where} runs backwards; write the lower layer first")
            if last >= num_layers:
                raise ValueError(f"{where}: the backbone's layers are 0 to {num_layers - 1}")
            times = int((match[4] or "1")[:9])
            if len(layers) + (last + 1 - first) * times > MOST_DEPTH * num_layers:
                raise ValueError(f"{where}: chains run at most {MOST_DEPTH} times the {num_layers} layers")
            layers.extend(list(range(first, last + 1)) * times)
        return cls(tuple(layers), num_layers)

    def __str__(self) -> str:
        return _text(self.layers)

    def __hash__(self) -> int:
        return self._hash

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def depth(self) -> int:
        """Number of layers executed."""
        return len(self.layers)

    @property
    def unique_depth(self) -> int:
        """Number of distinct layers executed."""
        return len(set(self.layers))

    @property
    def is_base(self) -> bool:
        return self.layers == tuple(range(self.num_layers))

    def apply(self, edit: Edit) -> "Chain":
        """Apply an edit at *positions of this chain* (the nested reading, as in CoLa).

        On the base chain positions are layer indices, so both readings agree there.

        Raises:
            ValueError: if the edit reaches past the end of the chain or leaves no layer.
        """
        end = edit.start + edit.length
        if end > self.depth:
            raise ValueError(f"{edit} reaches position {end - 1}; the chain ends at {self.depth - 1}")
        block = self.layers[edit.start : end] * (edit.times if isinstance(edit, Repeat) else 0)
        return Chain(self.layers[: edit.start] + block + self.layers[end:], self.num_layers)

    def edits(self) -> tuple[Edit, ...]:
        """The canonical disjoint edits of this chain, in layer order, adjacent skips joined.

        Raises:
            ValueError: if no set of disjoint skips and repeats makes this chain from the base chain.
        """
        edits: list[Edit] = []
        layers, position, expected, block_floor = self.layers, 0, 0, 0
        while position < len(layers):
            layer = layers[position]
            if layer > expected:
                edits.append(Skip(expected, layer - expected))
                block_floor = layer
            elif layer < expected:  # a jump back: layer..expected-1 is being run again
                length = expected - layer
                block = tuple(range(layer, expected))
                times = 1
                while layers[position : position + length] == block:
                    position += length
                    times += 1
                if layer < block_floor or times == 1:
                    raise ValueError(f"chain {self} has no disjoint edits: layer {layer} comes back out of turn")
                edits.append(Repeat(layer, length, times))
                block_floor = expected
                continue
            expected = layer + 1
            position += 1
        if expected < self.num_layers:
            edits.append(Skip(expected, self.num_layers - expected))
        return tuple(edits)


@lru_cache(maxsize=1 << 15)  # the questions of a run share many chains
def _text(layers: tuple[int, ...]) -> str:
    return " ".join(_parts(layers))


def _parts(layers: tuple[int, ...]) -> Iterator[str]:
    """The pieces of the text form: runs of consecutive layers, and runs that are looped at once."""
    ends = [place for place, (layer, after) in enumerate(pairwise(layers), 1) if after != layer + 1]
    ends.append(len(layers))
    start = number = 0
    while start < len(layers):
        while ends[number] <= start:
            number += 1
        end = ends[number]
        loop, times = end, 1  # where in the run a block begins that comes again right after it
        if end < len(layers) and layers[start] <= layers[end] <= layers[end - 1]:
            loop = start + layers[end] - layers[start]
            block = layers[loop:end]
            while layers[end : end + len(block)] == block:
                end += len(block)
                times += 1
        if times == 1:
            yield _span(layers[start], layers[end - 1])
        else:
            if loop > start:
                yield _span(layers[start], layers[loop - 1])
            yield f"({_span(block[0], block[-1])})x{times}"
        start = end


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


@dataclass(frozen=True)
class SearchSpace:
    """Which edits may follow a chain.

    Attributes:
        max_block: most layers that one edit skips or repeats (k in CoLa).
        max_extra: most extra executions of a repeated block (r in CoLa).
        operations: skip layers, repeat layers, or both.
        edits: disjoint allows each layer in at most one edit; nested applies edits to the edited chain, as CoLa does.
    """

    max_block: int = 4
    max_extra: int = 4
    operations: Literal["both", "skip", "repeat"] = "both"
    edits: Literal["disjoint", "nested"] = "disjoint"

    def __post_init__(self) -> None:
        for name in ("max_block", "max_extra"):
            if not 1 <= getattr(self, name) <= 1000:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 to 1000")

    def legal_edits(self, chain: Chain) -> list[Edit]:
        """All edits that may follow ``chain``: layer indices if disjoint, positions if nested.

        Raises:
            ValueError: if the space is disjoint and the chain has no disjoint edits.
        """
        if self.edits == "nested":
            free = [True] * chain.depth
        else:
            free = [True] * chain.num_layers
            for edit in chain.edits():
                free[edit.start : edit.start + edit.length] = [False] * edit.length
        edits: list[Edit] = []
        for start in range(len(free)):
            for length in range(1, self.max_block + 1):
                if start + length > len(free) or not free[start + length - 1]:
                    break
                if self.operations != "repeat" and length < chain.depth:
                    edits.append(Skip(start, length))
                if self.operations != "skip":
                    edits.extend(Repeat(start, length, extra + 1) for extra in range(1, self.max_extra + 1))
        return edits

    def apply(self, chain: Chain, edit: Edit) -> Chain:
        """The chain that ``edit``, one of ``legal_edits``, makes of ``chain``."""
        if self.edits == "nested":
            return chain.apply(edit)
        return Chain.from_edits([*chain.edits(), edit], chain.num_layers)

    def decompose(self, chain: Chain) -> tuple[Edit, ...]:
        """The chain's disjoint edits in layer order, long skips split into blocks this space admits.

        Raises:
            ValueError: if the chain has no disjoint edits or needs an edit outside this space.
        """
        edits: list[Edit] = []
        for edit in chain.edits():
            if isinstance(edit, Skip) and self.operations != "repeat":
                end = edit.start + edit.length
                edits.extend(
                    Skip(start, min(self.max_block, end - start)) for start in range(edit.start, end, self.max_block)
                )
            elif (
                isinstance(edit, Repeat)
                and self.operations != "skip"
                and edit.length <= self.max_block
                and edit.times <= self.max_extra + 1
            ):
                edits.append(edit)
            else:
                raise ValueError(f"chain {chain} needs {edit}, which is outside {self}")
        return tuple(edits)
