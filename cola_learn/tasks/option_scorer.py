"""Multiple-choice questions: the log-probability of every option's text."""

from collections.abc import Sequence

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor, Usage
from cola_learn.backbone.rows import Row
from cola_learn.chains import Chain
from cola_learn.tasks.continuations import Continuations, Predicted
from cola_learn.tasks.questions import Sample
from cola_learn.tasks.scores import OptionScores
from cola_learn.tasks.scoring import Metric


class OptionScorer:
    """Scores the options of open samples through an executor, one pass a chain.

    Args:
        executor: runs the chains.
        metric: ``acc`` or ``acc_norm``.
        shared_prompt: override whether options share a sequence; by default whenever the backbone allows it.
        truncate: cut prompts that are too long for the model at their beginning, instead of refusing them.
    """

    provisional = False
    ungraded = 0

    def __init__(
        self,
        executor: Executor,
        metric: Metric = "acc",
        shared_prompt: bool | None = None,
        truncate: bool = False,
    ) -> None:
        self.executor = executor
        self.metric = metric
        self._continuations = Continuations(executor, shared_prompt, truncate)
        self._lengths: dict[str, tuple[int, ...]] = {}

    @property
    def backbone(self) -> Backbone:
        return self.executor.backbone

    @property
    def num_layers(self) -> int:
        """N of the backbone."""
        return self.backbone.num_layers

    @property
    def usage(self) -> Usage:
        """What its layers cost so far."""
        return self.executor.usage

    def alone(self) -> "OptionScorer":
        """One that scores alike and keeps nothing."""
        own = self._continuations
        return OptionScorer(Executor(self.backbone, 0), self.metric, own.shared_prompt, own.truncate)

    def reference(self) -> "OptionScorer":
        """:meth:`alone`."""
        return self.alone()

    def open(self, sample: Sample) -> None:
        """Record a sample's rows; it stays open for :meth:`score` until :meth:`close`."""
        self._continuations.open(sample)
        self._lengths[sample.key] = sample.lengths

    def close(self, key: str) -> None:
        """Drop an open sample and all that is kept for it."""
        self._continuations.close(key)
        del self._lengths[key]

    def rows(self, key: str) -> tuple[Row, ...]:
        """The rows of an open sample."""
        return self._continuations.rows(key)

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[OptionScores]:
        """Scores of each (key of an open sample, chain), in request order."""
        predicted = self._continuations.predict(requests)
        return [self._scores(key, own) for (key, _), own in zip(requests, predicted, strict=True)]

    def _scores(self, key: str, options: Sequence[Predicted]) -> OptionScores:
        sums = [option.logprob for option in options]
        if self.metric == "acc_norm":
            sums = [value / length for value, length in zip(sums, self._lengths[key], strict=True)]
        return OptionScores(tuple(sums))
