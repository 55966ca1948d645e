"""The static front: what chains reach that are the same for all questions, at every depth in between too."""

from dataclasses import dataclass

import numpy

from cola_learn.chains import Chain
from cola_learn.label.score_matrix import Array


@dataclass(frozen=True, eq=False)
class StaticFront:
    """The upper hull of static chains, reward against depth. A coin that is flipped for every question between two of
    them reaches all depths between theirs, so a policy has to lie above the line that joins them.

    Attributes:
        depths: of the C chains, in layers, ``[C]``.
        corners: which of them are on the hull, from the shallowest to the one with the highest reward.
    """

    depths: Array
    corners: tuple[int, ...]

    @classmethod
    def of(cls, depths: Array, rewards: Array) -> "StaticFront":
        """The front of C chains by their mean soft reward on training questions, ``[C]``."""
        return cls(depths, upper_hull(depths, rewards))

    def at(self, depth: float) -> Array | None:
        """The chance of each chain ``[C]`` that gives this mean depth, or the best chain where that is no deeper; None
        below the shallowest.
        """
        found = numpy.zeros(len(self.depths))
        places = self.depths[list(self.corners)]
        if depth < places[0] - 1e-9:
            return None
        upper = int(numpy.searchsorted(places, depth - 1e-9))
        if upper == len(places) or upper == 0:
            found[self.corners[min(upper, len(places) - 1)]] = 1.0
            return found
        low, high = places[upper - 1], places[upper]
        share = float(numpy.clip((depth - low) / (high - low), 0, 1))
        found[self.corners[upper - 1]], found[self.corners[upper]] = 1 - share, share
        return found


@dataclass(frozen=True, eq=False)
class Mixture:
    """The front at one depth.

    Attributes:
        rewards: expected, of held-out questions, ``[Q]``.
        depth: mean, in layers.
        text: such as ``60% 0-17 20-29, 40% 0-29``.
    """

    rewards: Array
    depth: float
    text: str


@dataclass(frozen=True, eq=False)
class HeldFront:
    """A static front with what its chains make of held-out questions.

    Attributes:
        front: of training questions.
        chains: the C chains.
        rewards: of held-out questions, ``[Q, C]``; those of chains that are no corners are not read.
    """

    front: StaticFront
    chains: tuple[Chain, ...]
    rewards: Array

    def at(self, depth: float) -> Mixture | None:
        """The front at a mean depth in layers; None below the shallowest chain."""
        chances = self.front.at(depth)
        if chances is None:
            return None
        used = numpy.flatnonzero(chances)
        return Mixture(
            self.rewards[:, used] @ chances[used],
            float(self.front.depths @ chances),
            ", ".join(f"{chances[chain]:.0%} {self.chains[chain]}" for chain in used),
        )


def best_within(depths: Array, rewards: Array, depth: float) -> int | None:
    """Index of the chain with the highest reward of those that are no deeper, on the hull or not; None where all are
    deeper."""
    short = numpy.where(depths <= depth + 1e-9, rewards, -numpy.inf)
    return int(short.argmax()) if numpy.isfinite(short).any() else None


def upper_hull(depths: Array, rewards: Array) -> tuple[int, ...]:
    """Indices of the corners of the upper concave hull (Andrew 1979), rising in depth and in reward."""
    hull: list[int] = []
    for chain in sorted(range(len(depths)), key=lambda one: (depths[one], -rewards[one])):
        if hull and (depths[chain] == depths[hull[-1]] or rewards[chain] <= rewards[hull[-1]]):
            continue
        while len(hull) > 1:
            (x1, y1), (x2, y2) = ((depths[one], rewards[one]) for one in hull[-2:])
            if (y2 - y1) * (depths[chain] - x1) > (rewards[chain] - y1) * (x2 - x1):
                break
            hull.pop()
        hull.append(chain)
    return tuple(hull)
