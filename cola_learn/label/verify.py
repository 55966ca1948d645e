"""Verification: chains that a search found good run again, alone and uncached."""

from collections.abc import Sequence
from dataclasses import replace

from cola_learn.chains import Chain
from cola_learn.label.plan import Verify
from cola_learn.label.records import Label, Trial
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.judges import score_questions
from cola_learn.rewards.scores import Scores
from cola_learn.tasks.questions import Question, Template


class Verifier:
    """Runs good chains of finished labels again, alone and uncached, and stores what that gives.

    Where the backbone's results do not depend on company (``Capabilities.exact``), one chain a label, the shallowest
    good one, is enough to watch over that; elsewhere, or once any result has differed, all good chains and all finds of
    the luck control run again. So do all where a search only verifies answers: then each is confirmed by generating.

    Args:
        judge: what the search used.
        template: how questions are written.
        verify: ``auto`` as above, ``good`` for all good chains always, ``off`` for none.

    Attributes:
        checked: chains run again.
        moved: those whose margin came out different in any bit.
        flipped: those that turned out wrong.
    """

    def __init__(self, judge: ModelJudge, template: Template, verify: Verify) -> None:
        self.checked = self.moved = self.flipped = 0
        self._reference = judge.reference()
        self._template: Template = template
        self._verify = verify
        self._all = verify == "good" or judge.provisional

    @property
    def ungraded(self) -> int:
        """Written answers that could not be graded, and counted as wrong."""
        return self._reference.ungraded

    def __call__(self, question: Question, label: Label) -> Label:
        """The label with the rewards and margins that its chains have alone. The luck control gets what the search
        gets: where all good chains run again, all its finds do."""
        luck = label.luck
        few = not self._all and self._reference.backbone.capabilities.exact and not self.moved
        good = label.good[:1] if few else label.good
        lucky = luck.found if luck and not few else ()
        if self._verify != "off" and (good or lucky):
            wanted = [*(trial.chain for trial in good), *(chain for chain, _ in lucky)]
            scores = self._run(question, list(dict.fromkeys(wanted)))
            again = {trial.chain: self._again(trial, scores[trial.chain], question.gold) for trial in good}
            if luck and lucky:
                held = [pair for pair in lucky if scores[pair[0]].reward(luck.option) >= label.good_from]
                luck = replace(luck, found=tuple(held))
            label = replace(label, trials=tuple(again.get(trial.chain, trial) for trial in label.trials))
        return replace(label, luck=luck and luck.shallower())

    def _again(self, trial: Trial, scores: Scores, gold: int) -> Trial:
        found = replace(trial, reward=scores.reward(gold), margin=scores.margin(gold))
        self.checked += 1
        self.moved += found.margin != trial.margin
        self.flipped += found.reward != trial.reward
        return found

    def _run(self, question: Question, chains: Sequence[Chain]) -> dict[Chain, Scores]:
        [(_, scores)] = score_questions(self._reference, [question], chains, self._template, together=0)
        return scores
