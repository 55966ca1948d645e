"""Multiple-choice questions: the log-probability of every option's text."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from cola_learn.backbone.executor import Executor, Usage
from cola_learn.backbone.rows import Row
from cola_learn.chains import Chain
from cola_learn.rewards.continuations import Continuations
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.scores import OptionScores
from cola_learn.tasks.questions import Metric, Sample

_UNCONDITIONAL = "Answer:"  # before an option whose question is left out, as in OLMES


class OptionScorer(ModelJudge):
    """Scores the options of open samples through an executor, one pass a chain.

    Args:
        executor: runs the chains.
        metric: ``acc``, ``acc_norm``, or ``pmi``: log-probability in context minus that after ``Answer:`` alone,
            through the same chain.
        shared_prompt: override whether options share a sequence; by default whenever the backbone allows it.
        truncate: cut prompts that are too long for the model at their beginning, instead of refusing them.
    """

    def __init__(
        self,
        executor: Executor,
        metric: Metric = "acc",
        shared_prompt: bool | None = None,
        truncate: bool = False,
    ) -> None:
        super().__init__(executor.backbone)
        self.executor = executor
        self.metric = metric
        self._continuations = Continuations(executor, shared_prompt, truncate)
        self._lengths: dict[str, tuple[int, ...]] = {}

    @property
    def usage(self) -> Usage:
        return self.executor.usage

    def alone(self) -> "OptionScorer":
        own = self._continuations
        return OptionScorer(Executor(self.backbone, 0), self.metric, own.shared_prompt, own.truncate)

    def open(self, sample: Sample) -> None:
        self._continuations.open(sample)
        self._lengths[sample.key] = sample.lengths
        if self.metric == "pmi":
            alone = (_UNCONDITIONAL,) * len(sample.contexts)
            self._continuations.open(replace(sample, key=_alone(sample.key), prompt=_UNCONDITIONAL, contexts=alone))

    def close(self, key: str) -> None:
        self._continuations.close(key)
        del self._lengths[key]
        if self.metric == "pmi":
            self._continuations.close(_alone(key))

    def rows(self, key: str) -> tuple[Row, ...]:
        """The rows of an open sample."""
        return self._continuations.rows(key)

    def read_prompt(self, key: str, layers: Sequence[int]) -> Tensor | None:
        return self._continuations.read_prompt(key, layers)

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[OptionScores]:
        asked = list(requests)
        if self.metric == "pmi":
            asked += [(_alone(key), chain) for key, chain in requests]
        sums = [[option.logprob for option in options] for options in self._continuations.predict(asked)]
        if self.metric == "pmi":
            sums, apart = sums[: len(requests)], sums[len(requests) :]
            sums = [[one - other for one, other in zip(*pair, strict=True)] for pair in zip(sums, apart, strict=True)]
        elif self.metric == "acc_norm":
            lengths = [self._lengths[key] for key, _ in requests]
            sums = [[one / size for one, size in zip(*pair, strict=True)] for pair in zip(sums, lengths, strict=True)]
        return [OptionScores(tuple(values)) for values in sums]


def _alone(key: str) -> str:
    """The key under which the options of a sample are open without their question."""
    return f"{key}\0"
