"""Labels as values: the result of the search for one question."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cola_learn.chains import Chain


@dataclass(frozen=True, slots=True)
class Trial:
    """A chain that was tried.

    Attributes:
        chain: which.
        reward: how good the answer through it is; right (1) or wrong (0) with most rewards.
        margin: score of the gold option minus the best other, in nats.
        visits: how often the search came through it.
        simulation: the simulation that tried it, counted from 1.
        neighbours: chains one edit away that were tried too.
        neighbours_good: the good ones of them.
        scores: of every option, log-probabilities in nats (per character with the metric ``acc_norm``); empty unless
            they were kept.
    """

    chain: Chain
    reward: float
    margin: float
    visits: int
    simulation: int = 0
    neighbours: int = 0
    neighbours_good: int = 0
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Luck:
    """The luck control: the same search, same budget, for a wrong option in the place of the gold one.

    Attributes:
        option: index of the wrong option; neither gold nor the base chain's answer.
        found: chains that answer with that option and the simulation that tried each; empty if luck did not reach it.
            Of stored labels, those that are shallower than all found before them.
    """

    option: int
    found: tuple[tuple[Chain, int], ...]

    def shallower(self) -> "Luck":
        """Without the finds that are no shallower than an earlier one."""
        kept: list[tuple[Chain, int]] = []
        for chain, simulation in self.found:
            if not kept or chain.depth < kept[-1][0].depth:
                kept.append((chain, simulation))
        return replace(self, found=tuple(kept))


@dataclass(frozen=True)
class Label:
    """All that the search found for one sample.

    Attributes:
        task, split, id: the question's name; its text is not kept.
        trials: every chain tried, the base chain first.
        luck: what the same search found for a wrong option; None where no option was left for it, or not asked for.
        digest: of the question as it was labelled; "" in labels of versions that kept none.
        good_from: the least reward of a good chain.
    """

    task: str
    split: str
    id: str
    trials: tuple[Trial, ...]
    luck: Luck | None = None
    digest: str = ""
    good_from: float = 1.0

    @property
    def key(self) -> str:
        return f"{self.task}/{self.split}/{self.id}"

    @property
    def base(self) -> Trial:
        return self.trials[0]

    @cached_property
    def good(self) -> tuple[Trial, ...]:
        """Good trials, the shallowest first."""
        good = (trial for trial in self.trials if trial.reward >= self.good_from)
        return tuple(sorted(good, key=lambda trial: trial.chain.depth))

    @property
    def pareto(self) -> tuple[int, ...]:
        """Indices of the trials that no other beats in reward at no more depth, the shallowest first."""
        return pareto_set([(trial.reward, trial.chain.depth) for trial in self.trials])

    @property
    def base_good(self) -> bool:
        """The base chain is good."""
        return self.base.reward >= self.good_from

    @property
    def corrected(self) -> bool:
        """The base chain is not good and some chain is."""
        return not self.base_good and bool(self.good)

    @property
    def shortened(self) -> bool:
        """The base chain is good and a shorter chain is too."""
        return self.base_good and self.good[0].chain.depth < self.base.chain.depth


def menu_of(labels: Iterable[Label]) -> tuple[Chain, ...]:
    """The chains that every label has, the base chain first; none where labels have different ones."""
    menus = {tuple(trial.chain for trial in label.trials) for label in labels}
    return menus.pop() if len(menus) == 1 else ()


def pareto_set(points: Sequence[tuple[float, int]]) -> tuple[int, ...]:
    """Indices of (reward, depth) points that are not dominated; of equal points the first stays."""
    front: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda index: (points[index][1], -points[index][0], index)):
        if points[index][0] > best:
            best = points[index][0]
            front.append(index)
    return tuple(front)
