"""Static chains, the same for all questions, and their front: what they reach at every depth in between too."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy

from cola_learn.chains import Chain
from cola_learn.label.records import Label
from cola_learn.label.score_matrix import Array, ScoreMatrix, of_one_menu
from cola_learn.label.store import LabelStore
from cola_learn.rewards.judge import Judge
from cola_learn.rewards.judges import score_all
from cola_learn.rewards.temperature import fitted, soft_rewards
from cola_learn.tasks.questions import Question

_TOGETHER = 8  # questions scored in one call


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


@dataclass(frozen=True, eq=False)
class StaticChains:
    """C chains, compared on labelled questions.

    Attributes:
        chains: the base chain first.
        rewards: their mean soft rewards, ``[C]``.
        front: of these.
        temperatures: of each task, for soft rewards.
        questions: how many they were compared on.
    """

    chains: tuple[Chain, ...]
    rewards: Array
    front: StaticFront
    temperatures: Mapping[str, float]
    questions: int

    @classmethod
    def of_menu(cls, table: ScoreMatrix) -> "StaticChains":
        rewards = table.soft.mean(0)
        return cls(table.chains, rewards, StaticFront.of(table.depths, rewards), table.temperatures, len(table))

    @property
    def corners(self) -> tuple[Chain, ...]:
        """The chains of the front."""
        return tuple(self.chains[corner] for corner in self.front.corners)

    def chain_at(self, depth: float) -> Chain:
        """The best chain of no more layers; the shallowest of the front where all have more."""
        best = best_within(self.front.depths, self.rewards, depth)
        return self.corners[0] if best is None else self.chains[best]

    def on(self, rewards: Callable[[Chain], Array]) -> HeldFront:
        """The front on held-out questions, given what a chain makes of them, ``[Q]``."""
        corners = list(self.front.corners)
        front = StaticFront(self.front.depths[corners], tuple(range(len(corners))))
        return HeldFront(front, self.corners, numpy.stack([rewards(chain) for chain in self.corners], axis=1))


def static_chains(
    judge_of: Callable[[Question], Judge],
    stores: Sequence[LabelStore],
    depths: Sequence[float],
    candidates: int,
    questions: int,
) -> StaticChains:
    """The static chains of labels: where these are of a menu, all its chains on all questions; else those that did best
    in the searches, scored anew on some questions.

    Args:
        judge_of: scores a question's chains.
        stores: the labels.
        depths: in layers: at each of them so many candidates of no more depth are compared.
        candidates: how many.
        questions: labelled ones that each candidate is scored on.
    """
    if of_one_menu(stores):
        return StaticChains.of_menu(ScoreMatrix.load(stores))
    labels = [label for store in stores for label in store]
    base = labels[0].base.chain
    some = list(dict.fromkeys(chain for depth in depths for chain in static_candidates(labels, depth, candidates)))
    if not some:  # no chain is as short
        some = [min((trial.chain for label in labels for trial in label.trials), key=lambda chain: chain.depth)]
    chains = tuple(dict.fromkeys([base, *some]))
    mixed = itertools.zip_longest(*(store.questions().values() for store in stores))
    pool = [question for row in mixed for question in row if question is not None][:questions]
    found = score_all(judge_of, pool, lambda _: chains, stores[0].manifest.scoring.template, _TOGETHER, "static chains")
    soft = soft_rewards(pool, found)
    rewards = numpy.array([soft[chain].mean() for chain in chains])
    front = StaticFront.of(numpy.array([chain.depth for chain in chains], dtype=float), rewards)
    return StaticChains(chains, rewards, front, fitted(pool, found), len(pool))


def static_candidates(labels: Sequence[Label], max_depth: float, count: int) -> list[Chain]:
    """Chains of at most ``max_depth`` layers that did best in the labels, by mean reward shrunk to the
    overall mean (each was tried on a few samples only). The base chain is among them if it is short enough.
    """
    rewards: dict[Chain, list[float]] = defaultdict(list)
    for label in labels:
        for trial in label.trials:
            rewards[trial.chain].append(trial.reward)
    overall = sum(map(sum, rewards.values())) / sum(map(len, rewards.values()))
    base = labels[0].base.chain

    def shrunk(chain: Chain) -> float:
        return (sum(rewards[chain]) + 4 * overall) / (len(rewards[chain]) + 4)

    short = [chain for chain in rewards if chain.depth <= max_depth and chain != base]
    best = sorted(short, key=lambda chain: (-shrunk(chain), chain.depth, chain.layers))[:count]
    return [*best, base] if base.depth <= max_depth else best
