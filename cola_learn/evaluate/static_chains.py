"""The chains of labels that are best for all questions: static chains, which every policy is compared with."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy

from cola_learn.chains import Chain
from cola_learn.evaluate.static_front import HeldFront, StaticFront, best_within
from cola_learn.label.records import Label
from cola_learn.label.score_matrix import Array, ScoreMatrix, of_one_menu
from cola_learn.label.store import LabelStore
from cola_learn.rewards.judge import Judge
from cola_learn.rewards.judges import score_all
from cola_learn.rewards.temperature import fitted, soft_rewards
from cola_learn.tasks.questions import Question

_TOGETHER = 8  # questions scored in one call


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
        table = ScoreMatrix.load(stores)
        rewards = table.soft.mean(0)
        front = StaticFront.of(table.depths, rewards)
        return StaticChains(table.chains, rewards, front, table.temperatures, len(table))
    labels = [label for store in stores for label in store]
    base = labels[0].base.chain
    some = list(dict.fromkeys(chain for depth in depths for chain in static_candidates(labels, depth, candidates)))
    if not some:  # no chain is as short
        some = [min((trial.chain for label in labels for trial in label.trials), key=lambda chain: chain.depth)]
    chains = tuple(dict.fromkeys([base, *some]))
    mixed = itertools.zip_longest(*(store.questions().values() for store in stores))
    pool = [question for row in mixed for question in row if question is not None][:questions]
    found = score_all(judge_of, pool, lambda _: chains, stores[0].manifest.template, _TOGETHER, "static chains")
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
