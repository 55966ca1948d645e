"""Multiple-choice questions: the log-probability of every option's text."""

from collections.abc import Sequence

from cola_learn.backbone.executor import Executor, Usage
from cola_learn.backbone.rows import Row
from cola_learn.chains import Chain
from cola_learn.tasks.continuations import Continuations, Predicted
from cola_learn.tasks.judge import ModelJudge
from cola_learn.tasks.questions import Sample
from cola_learn.tasks.scores import OptionScores
from cola_learn.tasks.scoring import Metric


class OptionScorer(ModelJudge):
    """Scores the options of open samples through an executor, one pass a chain.

    Args:
        executor: runs the chains.
        metric: ``acc`` or ``acc_norm``.
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

    def close(self, key: str) -> None:
        self._continuations.close(key)
        del self._lengths[key]

    def rows(self, key: str) -> tuple[Row, ...]:
        """The rows of an open sample."""
        return self._continuations.rows(key)

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[OptionScores]:
        predicted = self._continuations.predict(requests)
        return [self._scores(key, own) for (key, _), own in zip(requests, predicted, strict=True)]

    def _scores(self, key: str, options: Sequence[Predicted]) -> OptionScores:
        sums = [option.logprob for option in options]
        if self.metric == "acc_norm":
            sums = [value / length for value, length in zip(sums, self._lengths[key], strict=True)]
        return OptionScores(tuple(sums))
