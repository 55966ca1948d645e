"""A reward of one's own: how probable the right option is, good from one half on.

python -m cola_learn.label --reward examples.sureness.SURENESS --limit 20 --output runs/sure
python -m cola_learn.train --labels runs/sure --output runs/sure-train
python -m cola_learn.evaluate --labels runs/sure --reward examples.sureness.SURENESS --limit 20 --output runs/e
"""

from collections.abc import Sequence

from cola_learn import Chain
from cola_learn.backbone.executor import Executor
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.rewards.reward import Reward, asked_options
from cola_learn.rewards.scores import OptionScores


class Sureness(OptionScores):
    """The scores of the options under one chain."""

    def reward(self, gold: int) -> float:
        return self.probability(gold)


class SureScorer(OptionScorer):
    """Runs chains as for any question with options."""

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[OptionScores]:
        return [Sureness(scores.values) for scores in super().score(requests)]

    def alone(self) -> "SureScorer":
        return SureScorer(Executor(self.backbone, 0), self.metric)


SURENESS = Reward(
    "probability of the right option, {metric}",
    fits=lambda question: not question.open,
    judge=lambda backbone, cache, metric, prompt, cut: SureScorer(Executor(backbone, cache), metric, truncate=cut),
    asked=asked_options,
    good=0.5,
)
