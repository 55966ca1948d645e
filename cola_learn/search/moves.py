"""Edits as arrays: which may follow a chain, drawn at random, and the children of a node."""

import math
import random
import sys
from bisect import bisect
from collections.abc import Container, Sequence
from functools import lru_cache
from itertools import accumulate
from itertools import chain as joined
from typing import NamedTuple
from zlib import crc32

from cola_learn.chains import Chain, Edit, SearchSpace, Skip
from cola_learn.search.method import Prior


class Move:
    """An edit, ready to be applied: ``mask`` has the bits of its layers, ``times`` is 0 for a skip."""

    __slots__ = ("edit", "length", "mask", "start", "times")

    def __init__(self, edit: Edit) -> None:
        self.edit = edit
        self.start, self.length = edit.start, edit.length
        self.times = 0 if isinstance(edit, Skip) else edit.times
        self.mask = ((1 << edit.length) - 1) << edit.start

    def may_follow(self, chain: Chain, used: int, nested: bool) -> bool:
        """Whether the chain, whose disjoint edits have the layers ``used``, admits this edit."""
        return (nested or not self.mask & used) and (self.times > 0 or self.length < chain.depth)

    def apply(self, chain: Chain, nested: bool) -> Chain:
        """What SearchSpace.apply makes of it, without taking the chain apart: an edit that touches no other finds
        its layers where they first come, in one piece."""
        layers = chain.layers
        start = self.start if nested else layers.index(self.start)
        end = start + self.length
        return Chain(layers[:start] + layers[start:end] * self.times + layers[end:], chain.num_layers)


class Moves:
    """All edits at a number of positions, the skips first."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self.all = [Move(edit) for edit in sorted(edits, key=lambda edit: not isinstance(edit, Skip))]
        self.skips = sum(move.times == 0 for move in self.all)
        self.repeats = len(self.all) - self.skips

    def pick(self, coin: float, chance: float) -> int:
        """The number of a move by two numbers uniform in [0, 1). The coin is fair between the operations: there are
        several times as many repeats as skips."""
        if self.repeats == 0 or (self.skips > 0 and coin < 0.5):
            return int(chance * self.skips)
        return self.skips + int(chance * self.repeats)


@lru_cache(maxsize=256)
def moves_of(space: SearchSpace, chain_depth: int, num_layers: int) -> Moves:
    """The edits of a space at the positions of a chain (nested) or at the layers of the backbone (disjoint)."""
    positions = chain_depth if space.edits == "nested" else num_layers
    return Moves(space.legal_edits(Chain.base(positions)))


_TRIES = 100


def random_edit(
    chain: Chain, used: int, space: SearchSpace, chance: random.Random, seen: Container[Chain] = ()
) -> tuple[Chain, int] | None:
    """The chain after a random edit, skips and repeats equally likely, and the layers of its disjoint edits as bits.

    None if no edit leads to a chain that was not seen.
    """
    nested = space.edits == "nested"
    moves = moves_of(space, chain.depth, chain.num_layers)
    picks = (moves.pick(chance.random(), chance.random()) for _ in range(_TRIES if moves.all else 0))
    for number in joined(picks, range(len(moves.all))):
        move = moves.all[number]
        if move.may_follow(chain, used, nested):
            found = move.apply(chain, nested)
            if found not in seen:
                return found, used | move.mask
    return None


def used_layers(chain: Chain, space: SearchSpace) -> int:
    """The layers of the chain's disjoint edits as bits; 0 in a nested space, where any edit may follow."""
    if space.edits == "nested":
        return 0
    return sum(Move(edit).mask for edit in chain.edits())


_TRIES = 8


class Child(NamedTuple):
    """A chain, one edit further: ``used`` has the layers of all its edits as bits, ``chance`` is the edit's by the
    prior, 0 without one."""

    chain: Chain
    used: int
    chance: float


class Growth:
    """The children of every chain, in the order in which trees of one seed draw them.

    They depend on the seed and the chain alone: two searches of one seed whose rewards differ (for the gold option and
    for a wrong one) try much the same chains, and share one growth.

    Args:
        space: which edits may follow a chain.
        stream: 64 random bits, the seed.
        prior: weight of every edit; likely ones are drawn first.
    """

    def __init__(self, space: SearchSpace, stream: int, prior: Prior | None) -> None:
        self.space = space
        self.nested = space.edits == "nested"
        self.stream = stream
        self.prior = Chances(prior) if prior else None
        self._children: dict[Chain, Children] = {}

    def of(self, chain: Chain, used: int) -> "Children":
        """The children of a chain whose disjoint edits have the layers ``used``."""
        found = self._children.get(chain)
        if found is None:
            found = self._children[chain] = Children(chain, used, self)
        return found


class Children:
    """The children of one chain, drawn when they are first asked for."""

    __slots__ = ("_chain", "_drawn", "_growth", "_known", "_moves", "_rest", "_state", "_used")

    def __init__(self, chain: Chain, used: int, growth: Growth) -> None:
        self._chain = chain
        self._used = used
        self._growth = growth
        self._moves = moves_of(growth.space, chain.depth, chain.num_layers)
        self._state = growth.stream ^ (crc32(b"%d " * chain.depth % chain.layers) * 0x9E3779B97F4A7C15)
        self._known: list[Child | None] = []
        self._drawn: set[int] = set()
        self._rest: list[int] | None = None

    def at(self, place: int) -> Child | None:
        """The child drawn at a place, counted from 0; None behind the last. Those before it must be known."""
        if place == len(self._known):
            self._known.append(self._next())
        return self._known[place]

    def _next(self) -> Child | None:
        number = self._draw()
        if number is None:
            return None
        self._drawn.add(number)
        move, prior = self._moves.all[number], self._growth.prior
        chain = move.apply(self._chain, self._growth.nested)
        return Child(chain, self._used | move.mask, prior.chance(move.edit) if prior else 0.0)

    def _draw(self) -> int | None:
        """The number of an edit not drawn yet: a few tries first, then a list of all that is left."""
        moves, prior = self._moves, self._growth.prior
        if self._rest is None:
            for _ in range(_TRIES if moves.all else 0):
                number = prior.draw(moves, self._random()) if prior else moves.pick(self._random(), self._random())
                if self._may(number):
                    return number
            keys = {number: self._key(move) for number, move in enumerate(moves.all) if self._may(number)}
            self._rest = sorted(keys, key=keys.__getitem__)
        return self._rest.pop() if self._rest else None

    def _key(self, move: Move) -> float:
        """Sorting by these keys draws without replacement, by weight where there is a prior."""
        prior = self._growth.prior
        return self._random() if prior is None else math.log(1 - self._random()) / prior.chance(move.edit)

    def _may(self, number: int) -> bool:
        move = self._moves.all[number]
        return number not in self._drawn and move.may_follow(self._chain, self._used, self._growth.nested)

    def _random(self) -> float:
        """The next number of this chain's stream, uniform in [0, 1): Knuth's linear congruence, upper bits."""
        self._state = state = (self._state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (state >> 11) / (1 << 53)


class Chances:
    """Chances of edits; those without a weight have the least that any has."""

    def __init__(self, weights: Prior) -> None:
        total = sum(weights.values())
        least = sys.float_info.min  # a softmax comes to 0 where much is lost
        self._chances = {edit: max(weight / total, least) for edit, weight in weights.items()}
        self._least = min(self._chances.values())
        self._tables: dict[int, list[float]] = {}

    def chance(self, edit: Edit) -> float:
        return self._chances.get(edit, self._least)

    def draw(self, moves: Moves, chance: float) -> int:
        """The number of a move, drawn by weight."""
        table = self._tables.get(len(moves.all))
        if table is None:
            table = list(accumulate(self.chance(move.edit) for move in moves.all))
            self._tables[len(moves.all)] = table
        return min(bisect(table, chance * table[-1]), len(table) - 1)
