"""A labeller, of which a run has one per worker: it turns questions into labels, and runs good chains again, alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import torch

from cola_learn.backbone.executor import Usage
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain
from cola_learn.console import console
from cola_learn.label.driver import collect_seldom, in_order, label_questions
from cola_learn.label.manifest import Identity
from cola_learn.label.plan import Job, Resources, Verify
from cola_learn.label.records import Label, Trial
from cola_learn.label.single_edits import load_prior
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.judges import make_judge, score_questions
from cola_learn.rewards.reward import use_reward
from cola_learn.rewards.scores import Scores
from cola_learn.tasks.questions import Question, Template


@dataclass(frozen=True)
class Effort:
    """What labels cost, added up over workers, and what came of running chains alone.

    Attributes:
        usage: of layers.
        checked, flipped: good chains run again alone, and those wrong then.
        ungraded: written answers that could not be graded, and count as wrong.
    """

    usage: Usage = field(default_factory=Usage)
    checked: int = 0
    flipped: int = 0
    ungraded: int = 0

    def __add__(self, other: "Effort") -> "Effort":
        checked, flipped = self.checked + other.checked, self.flipped + other.flipped
        return Effort(self.usage + other.usage, checked, flipped, self.ungraded + other.ungraded)

    def __sub__(self, earlier: "Effort") -> "Effort":
        checked, flipped = self.checked - earlier.checked, self.flipped - earlier.flipped
        return Effort(self.usage - earlier.usage, checked, flipped, self.ungraded - earlier.ungraded)


class Workers(Protocol):
    """Whatever labels questions: a ``Labeller`` here, processes, or a Ray cluster."""

    @property
    def identity(self) -> Identity:
        """Which backbone they have."""

    @property
    def effort(self) -> Effort:
        """What their labels cost so far."""

    def run(self, questions: Sequence[Question], on_round: Callable[[int], None]) -> Iterator[list[Label]]:
        """Label the questions; yields labels as they are finished and tells ``on_round`` of simulations settled."""

    def close(self) -> None:
        """Let go of everything."""


class Labeller:
    """Labels questions in this process.

    Args:
        judge: scores chains.
        job: what is asked for.
    """

    def __init__(self, judge: ModelJudge, job: Job) -> None:
        self._judge = judge
        self._job = job
        self._reward = use_reward(job.scoring.reward)
        self._verifier = Verifier(judge, job.scoring.template, job.resources.verify)
        self.identity = Identity.of(judge.backbone)
        self._prior = load_prior(job.plan.search, self.identity.num_layers)

    @classmethod
    def load(cls, job: Job, device: str | None = None) -> "Labeller":
        """Load the backbone of a job, on the device given or its own.

        On a CPU, labels are those of a single thread: where more threads come to other results in the last bits, one
        is used, so that no layout of workers changes a label.
        """
        collect_seldom()
        resources = job.resources
        load = partial(load_backbone, job.backbone, device or resources.device, resources.dtype, bos=job.scoring.bos)
        backbone = load()
        if torch.get_num_threads() > 1 and backbone.capabilities.exact and not backbone.capabilities.threads_agree:
            torch.set_num_threads(1)
            console.print(
                f"{backbone.dtype_name} results depend on the number of threads here, so one is used; "
                "--workers uses more cores",
                style="dim",
            )
            backbone = load()
        use_reward(job.scoring.reward)  # in a process of its own it is not known yet
        return cls(make_judge(backbone, job.scoring, resources.cache_gib), job)

    @property
    def effort(self) -> Effort:
        """What the labels cost so far."""
        verifier = self._verifier
        ungraded = self._judge.ungraded + verifier.ungraded
        return Effort(self._judge.usage, verifier.checked, verifier.flipped, ungraded)

    def run(
        self, questions: Sequence[Question], on_round: Callable[[int], None] = lambda simulations: None
    ) -> Iterator[list[Label]]:
        """Verified labels of the questions, as they are finished."""
        job = self._job
        plan, trees = job.plan, job.resources.trees
        finished = label_questions(
            self._judge, questions, plan, job.scoring.template, trees, self._prior, self._reward, on_round
        )
        for pairs in finished:
            yield [self._verifier(question, label) for question, label in pairs]

    def close(self) -> None:
        """Nothing to let go of."""


def blocks_of(questions: Sequence[Question], resources: Resources) -> list[list[Question]]:
    """The questions in pieces to hand out: at most ``trees`` each, and at least four a worker where there are enough.

    In the order of the driver, so that questions of about one length are together.
    """
    size = max(1, min(resources.trees, len(questions) // (4 * resources.workers)))
    ordered = in_order(questions)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def label_block(
    labeller: Labeller, questions: Sequence[Question], on_round: Callable[[int], None] = lambda simulations: None
) -> tuple[list[Label], Effort]:
    """Labels of a block and what they cost."""
    before = labeller.effort
    labels = [label for finished in labeller.run(questions, on_round) for label in finished]
    return labels, labeller.effort - before


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
