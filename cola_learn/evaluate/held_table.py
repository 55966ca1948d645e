"""What chains make of held-out questions: every chain of a menu, or those that policies chose."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy
from numpy.typing import NDArray

from cola_learn.chains import Chain
from cola_learn.evaluate.results import Result
from cola_learn.label.score_matrix import Array, ScoreMatrix
from cola_learn.rewards.scores import LEAST_MARGIN, Scores
from cola_learn.tasks.questions import Question
from cola_learn.train.choice import Choices, collapse

_MOST_DEALT = 16  # chains that are run on other questions; of more, so many are drawn


@dataclass(frozen=True, eq=False)
class Choice:
    """What a policy runs.

    Attributes:
        policy: its name.
        chains: one for each of Q questions.
        target, price, oracle: as of a ``Result``.
        dealt: whether its chains are dealt to other questions too: what of its result does not depend on the input.
    """

    policy: str
    chains: tuple[Chain, ...]
    target: float | None = None
    price: float | None = None
    oracle: bool = False
    dealt: bool = False

    @property
    def depth(self) -> float:
        """Mean depth, in layers."""
        return float(numpy.mean([chain.depth for chain in self.chains]))


@dataclass(frozen=True, eq=False)
class HeldTable:
    """Q questions, C chains.

    Attributes:
        questions: Q of them.
        chains: C of them, the base chain first.
        rewards: ``[Q, C]``, NaN where a chain was not run.
        answers: index of the option that is answered with, -1 for none, ``[Q, C]``.
        soft: soft rewards in nats ``[Q, C]``, of a menu and of measures; NaN where a chain was not run.
        measured: whether rewards are measures, not right or wrong.
    """

    questions: tuple[Question, ...]
    chains: tuple[Chain, ...]
    rewards: Array
    answers: NDArray[numpy.int64]
    soft: Array | None = None
    measured: bool = False

    @classmethod
    def of_menu(cls, matrix: ScoreMatrix) -> "HeldTable":
        answers = matrix.scores.argmax(-1) if matrix.scores.size else numpy.zeros(matrix.rewards.shape, int)
        return cls(matrix.questions, matrix.chains, matrix.rewards, answers, matrix.soft, not matrix.scores.size)

    @classmethod
    def of_scores(
        cls, questions: Sequence[Question], scores: Sequence[Mapping[Chain, Scores]], measured: bool = False
    ) -> "HeldTable":
        """Of the chains that were run on each question, the base chain among them."""
        base = Chain.base(next(iter(scores[0])).num_layers)
        chains = tuple(dict.fromkeys([base, *(chain for own in scores for chain in own)]))
        rewards = numpy.full((len(questions), len(chains)), numpy.nan)
        answers, soft = numpy.full(rewards.shape, -1), numpy.full(rewards.shape, numpy.nan)
        for row, (question, own) in enumerate(zip(questions, scores, strict=True)):
            for place, chain in enumerate(chains):
                if chain in own:
                    rewards[row, place], answers[row, place] = own[chain].reward(question.gold), own[chain].choice
                    soft[row, place] = max(own[chain].margin(question.gold), LEAST_MARGIN)
        return cls(tuple(questions), chains, rewards, answers, soft if measured else None, measured)

    @cached_property
    def places(self) -> dict[Chain, int]:
        return {chain: place for place, chain in enumerate(self.chains)}

    @cached_property
    def gains(self) -> Array:
        """In soft reward over the base chain, in nats, ``[Q, C]``; of a menu and of measures."""
        assert self.soft is not None
        return self.soft - self.soft[:, :1]

    @cached_property
    def _whole(self) -> bool:
        """Whether every chain was run on every question, and it is known what it gains."""
        return self.soft is not None and bool(numpy.isfinite(self.soft).all())

    @cached_property
    def tasks(self) -> NDArray[numpy.str_]:
        """Task of each question, ``[Q]``."""
        return numpy.array([question.task for question in self.questions])

    def result(self, choice: Choice, seed: int = 0) -> Result:
        """What a policy makes of the questions."""
        rows, chosen = numpy.arange(len(self.questions)), numpy.array([self.places[chain] for chain in choice.chains])
        depths = numpy.array([chain.depth for chain in self.chains], dtype=float)
        base = self.chains[0].num_layers
        several = choice.dealt and len(set(self.tasks.tolist())) > 1
        return Result(
            choice.policy,
            self.rewards[rows, chosen],
            depths[chosen],
            choice.target,
            choice.price,
            choice.chains,
            tuple(self.answers[rows, chosen].tolist()),
            choice.oracle,
            shuffled=self._dealt(choice, numpy.zeros(len(rows)), seed) if choice.dealt else None,
            shuffled_in_task=self._dealt(choice, self.tasks, seed) if several else None,
            gains=self.gains[rows, chosen] if self.measured else None,
            collapse=collapse(Choices(chosen, self.gains, depths / base, self.tasks)) if self._whole else {},
        )

    def _dealt(self, choice: Choice, groups: NDArray, seed: int) -> Array:
        """Rewards of choices dealt to other questions of the same group, in the mean over all ways to deal
        (or draws), ``[Q]``."""
        found = numpy.zeros(len(groups))
        for group in numpy.unique(groups):
            own = numpy.flatnonzero(groups == group)
            shares = to_deal([choice.chains[row] for row in own], seed, not self._whole)
            columns = numpy.array([self.places[chain] for chain in shares])
            found[own] = self.rewards[own][:, columns] @ numpy.array(list(shares.values()))
        return found


def to_deal(chains: Sequence[Chain], seed: int, few: bool = True) -> dict[Chain, float]:
    """The chains that some questions were given, with the share of each; where there are many and it is to be ``few``,
    some that are drawn."""
    many = few and len(set(chains)) > _MOST_DEALT
    counts = Counter(random.Random(seed).choices(chains, k=_MOST_DEALT) if many else chains)
    return {chain: count / counts.total() for chain, count in counts.items()}


def chains_to_run(choices: Sequence[Choice], questions: Sequence[Question], seed: int) -> dict[str, list[Chain]]:
    """For each question, by its key, the chains that results of these choices need."""
    wanted: dict[str, dict[Chain, None]] = {question.key: {} for question in questions}
    for choice in choices:
        groups: dict[str, list[int]] = {"": list(range(len(questions)))} if choice.dealt else {}
        for row, (question, chain) in enumerate(zip(questions, choice.chains, strict=True)):
            wanted[question.key][chain] = None
            if choice.dealt:
                groups.setdefault(question.task, []).append(row)
        for rows in groups.values():
            shares = to_deal([choice.chains[row] for row in rows], seed)
            for row in rows:
                wanted[questions[row].key] |= dict.fromkeys(shares)
    return {key: list(chains) for key, chains in wanted.items()}
