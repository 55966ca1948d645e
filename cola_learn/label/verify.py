"""Re-executing chains that a search found good, each alone and with nothing kept: what a label says must be so."""

from dataclasses import replace
from typing import Literal

from cola_learn.backbone import Executor
from cola_learn.label.records import Label, Trial
from cola_learn.tasks import Question, Scorer, Template, as_sample

Verify = Literal["auto", "good", "off"]


class Verifier:
    """Runs good chains of finished labels again, alone and uncached, and stores what that gives.

    Where the backbone's results do not depend on company (``Backbone.exact``), one chain a label, the shallowest
    good one, is enough to watch over that; elsewhere, or once any result has differed, all good chains run again.

    Args:
        scorer: what the search used.
        template: how questions are written.
        verify: ``auto`` as above, ``good`` for all good chains always, ``off`` for none.

    Attributes:
        checked: chains run again.
        moved: those whose margin came out different in any bit.
        flipped: those that turned out wrong.
    """

    def __init__(self, scorer: Scorer, template: Template, verify: Verify) -> None:
        self.checked = self.moved = self.flipped = 0
        self._alone = Scorer(Executor(scorer.backbone, cache_bytes=0), scorer.metric, scorer.packed)
        self._template: Template = template
        self._verify = verify

    def __call__(self, question: Question, label: Label) -> Label:
        """The label with the rewards and margins that its chains have alone."""
        if self._verify == "off" or not label.good:
            return label
        few = self._verify == "auto" and self._alone.backbone.exact and not self.moved
        chosen = label.good[:1] if few else label.good
        sample = as_sample(question, self._template)
        self._alone.open(sample)
        again = {trial.chain: self._run(sample.key, trial, question.gold) for trial in chosen}
        self._alone.close(sample.key)
        return replace(label, trials=tuple(again.get(trial.chain, trial) for trial in label.trials))

    def _run(self, key: str, trial: Trial, target: int) -> Trial:
        scores = self._alone.score([(key, trial.chain)])[0]
        found = replace(trial, reward=scores.reward(target), margin=scores.margin(target))
        self.checked += 1
        self.moved += found.margin != trial.margin
        self.flipped += found.reward != trial.reward
        return found
