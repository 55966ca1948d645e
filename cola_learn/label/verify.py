"""Re-executing chains that a search found good, each alone and with nothing kept: what a label says must be so."""

from dataclasses import replace
from typing import Literal

from cola_learn.chains import Chain
from cola_learn.label.records import Label, Trial
from cola_learn.tasks import Confirmer, Question, Scorer, Scores, Template, Writer, as_sample

Verify = Literal["auto", "good", "off"]


def strict(scorer: Scorer | Writer, reward: str) -> Scorer | Writer | Confirmer:
    """What stored rewards must agree with: the scorer alone and, where it only verifies, confirmed by generation."""
    alone = scorer.alone()
    if reward != "verify":
        return alone
    assert isinstance(alone, Scorer)
    return Confirmer(alone, Writer(alone.backbone, alone.prompt, cache_bytes=0, truncate=alone.truncate))


class Verifier:
    """Runs good chains of finished labels again, alone and uncached, and stores what that gives.

    Where the backbone's results do not depend on company (``Backbone.exact``), one chain a label, the shallowest
    good one, is enough to watch over that; elsewhere, or once any result has differed, all good chains and all finds of
    the luck control run again. So do all where a search only verifies answers: then each is confirmed by generating.

    Args:
        scorer: what the search used.
        template: how questions are written.
        verify: ``auto`` as above, ``good`` for all good chains always, ``off`` for none.
        reward: of the search.

    Attributes:
        checked: chains run again.
        moved: those whose margin came out different in any bit.
        flipped: those that turned out wrong.
        graders: of written answers.
    """

    def __init__(self, scorer: Scorer | Writer, template: Template, verify: Verify, reward: str = "choices") -> None:
        self.checked = self.moved = self.flipped = 0
        self._alone = strict(scorer, reward)
        self._template: Template = template
        self._verify = verify
        self._all = verify == "good" or reward == "verify"
        writers = (scorer, self._alone.writer if isinstance(self._alone, Confirmer) else self._alone)
        self.graders = [writer.grader for writer in writers if isinstance(writer, Writer)]

    def __call__(self, question: Question, label: Label) -> Label:
        """The label with the rewards and margins that its chains have alone. The luck control gets what the search
        gets: where all good chains run again, all its finds do."""
        luck = label.luck
        few = not self._all and self._alone.backbone.exact and not self.moved
        good = label.good[:1] if few else label.good
        lucky = luck.found if luck and not few else ()
        if self._verify != "off" and (good or lucky):
            sample = as_sample(question, self._template)
            self._alone.open(sample)
            again = {trial.chain: self._again(sample.key, trial, question.gold) for trial in good}
            if luck and lucky:
                held = [pair for pair in lucky if self._run(sample.key, pair[0]).reward(luck.option) >= 1]
                luck = replace(luck, found=tuple(held))
            self._alone.close(sample.key)
            label = replace(label, trials=tuple(again.get(trial.chain, trial) for trial in label.trials))
        return replace(label, luck=luck and luck.shallower())

    def _again(self, key: str, trial: Trial, gold: int) -> Trial:
        scores = self._run(key, trial.chain)
        found = replace(trial, reward=scores.reward(gold), margin=scores.margin(gold))
        self.checked += 1
        self.moved += found.margin != trial.margin
        self.flipped += found.reward != trial.reward
        return found

    def _run(self, key: str, chain: Chain) -> Scores:
        return self._alone.score([(key, chain)])[0]
