"""What a search found for one sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cola_learn.chains import Chain


@dataclass(frozen=True, slots=True)
class Trial:
    """A chain that was tried, its reward and margin, and how often the search visited it."""

    chain: Chain
    reward: float
    margin: float
    visits: int


@dataclass(frozen=True)
class Label:
    """All that the search found for one sample.

    Attributes:
        task, split, id: the question's name; its text is not kept.
        trials: every chain tried, the base chain first.
    """

    task: str
    split: str
    id: str
    trials: tuple[Trial, ...]

    @property
    def key(self) -> str:
        return f"{self.task}/{self.split}/{self.id}"

    @property
    def base(self) -> Trial:
        return self.trials[0]

    @cached_property
    def good(self) -> tuple[Trial, ...]:
        """Trials with reward 1, the shallowest first."""
        return tuple(
            sorted((trial for trial in self.trials if trial.reward >= 1.0), key=lambda trial: trial.chain.depth)
        )

    @property
    def pareto(self) -> tuple[int, ...]:
        """Indices of the trials that no other beats in reward at no more depth, the shallowest first."""
        return pareto_set([(trial.reward, trial.chain.depth) for trial in self.trials])

    @property
    def corrected(self) -> bool:
        """The base chain is wrong and some chain is right."""
        return self.base.reward < 1.0 and bool(self.good)

    @property
    def shortened(self) -> bool:
        """The base chain is right and a shorter chain is too."""
        return self.base.reward >= 1.0 and self.good[0].chain.depth < self.base.chain.depth


def pareto_set(points: Sequence[tuple[float, int]]) -> tuple[int, ...]:
    """Indices of (reward, depth) points that are not dominated; of equal points the first stays."""
    front: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda index: (points[index][1], -points[index][0], index)):
        if points[index][0] > best:
            best = points[index][0]
            front.append(index)
    return tuple(front)
