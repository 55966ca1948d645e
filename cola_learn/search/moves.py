"""Edits as arrays, for searches that draw and apply millions of them."""

import random
from collections.abc import Container, Sequence
from functools import lru_cache
from itertools import chain as joined

from cola_learn.chains import Chain, Edit, SearchSpace, Skip


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
