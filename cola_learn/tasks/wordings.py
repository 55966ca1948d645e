"""Several wordings of a question: a chain that turns one of them right by chance seldom does so for all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from cola_learn.backbone.executor import Usage
from cola_learn.chains import Chain
from cola_learn.tasks.judge import ModelJudge
from cola_learn.tasks.option_scorer import OptionScorer
from cola_learn.tasks.questions import Sample
from cola_learn.tasks.rewording import reworded
from cola_learn.tasks.scores import OptionScores

_ENOUGH = 2 / 3  # of all wordings


@dataclass(frozen=True)
class WordedScores:
    """What one chain makes of the wordings of one question.

    Attributes:
        parts: of each wording; the first is the question's own.
    """

    parts: tuple[OptionScores, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """The mean score of every option."""
        options = zip(*(part.values for part in self.parts), strict=True)
        return tuple(sum(values) / len(values) for values in options)

    @property
    def choice(self) -> int:
        """The option that the question's own wording is answered with, if two thirds of all are; else -1."""
        own = self.parts[0].choice
        agree = sum(part.choice == own for part in self.parts)
        return own if agree >= _ENOUGH * len(self.parts) - 1e-9 else -1

    def reward(self, gold: int) -> float:
        """1.0 if the answer is ``gold``, else 0.0."""
        return float(self.choice == gold)

    def probability(self, gold: int, temperature: float = 1.0) -> float:
        """Of the mean scores."""
        return OptionScores(self.values).probability(gold, temperature)

    def margin(self, gold: int) -> float:
        """Of the mean scores."""
        return OptionScores(self.values).margin(gold)


class WordedScorer(ModelJudge):
    """Scores questions with choices in several wordings, each as a row of its own.

    Args:
        scorer: scores one wording.
        reworded: templates of the other wordings, with ``{question}``.
    """

    def __init__(self, scorer: OptionScorer, reworded: Sequence[str]) -> None:
        super().__init__(scorer.backbone)
        self._scorer, self._reworded = scorer, tuple(reworded)

    @property
    def usage(self) -> Usage:
        return self._scorer.usage

    def alone(self) -> Self:
        return type(self)(self._scorer.alone(), self._reworded)

    def open(self, sample: Sample) -> None:
        self._scorer.open(sample)
        for key, template in zip(self._keys(sample.key)[1:], self._reworded, strict=True):
            self._scorer.open(replace(reworded(sample, template), key=key))

    def close(self, key: str) -> None:
        for each in self._keys(key):
            self._scorer.close(each)

    def read_prompt(self, key: str, layers: Sequence[int]) -> Tensor | None:
        return self._scorer.read_prompt(key, layers)

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[WordedScores]:
        asked = [(each, chain) for key, chain in requests for each in self._keys(key)]
        found, count = self._scorer.score(asked), 1 + len(self._reworded)
        return [WordedScores(tuple(found[place : place + count])) for place in range(0, len(found), count)]

    def _keys(self, key: str) -> list[str]:
        return [key, *(f"{key}\1{number}" for number in range(len(self._reworded)))]
