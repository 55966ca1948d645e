"""One replica of the backbone with all that turns questions into labels; a run has one, or one a worker."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Protocol

import torch

from cola_learn.backbone import Backbone, Executor, load_backbone
from cola_learn.backbone.load import Dtype
from cola_learn.console import console
from cola_learn.label.driver import collect_seldom, in_order, label_questions
from cola_learn.label.options import LabelOptions
from cola_learn.label.prior import load_priors
from cola_learn.label.records import Label
from cola_learn.label.verify import Verifier
from cola_learn.tasks import Question, Scorer, Writer


@dataclass(frozen=True)
class Identity:
    """Which backbone it is."""

    fingerprint: str
    num_layers: int
    dtype: Dtype
    special_tokens: str = ""

    @classmethod
    def of(cls, backbone: Backbone) -> "Identity":
        return cls(backbone.fingerprint, backbone.num_layers, backbone.dtype_name, backbone.encoder.special_tokens)


@dataclass(frozen=True)
class Effort:
    """What labels cost: counts that add up over workers, but for the peak, and what came of running chains alone.

    Attributes:
        layers_asked, layers_run: layers of the chains asked for, and of those the layers really run.
        lookups, hits: of the activation trie.
        tokens, padding: that layers ran on, and padding among them.
        peak_bytes: most memory for kept states in any worker.
        checked, flipped: good chains run again alone, and those wrong then.
        ungraded: written answers that could not be graded, and count as wrong.
    """

    layers_asked: int = 0
    layers_run: int = 0
    lookups: int = 0
    hits: int = 0
    tokens: int = 0
    padding: int = 0
    checked: int = 0
    flipped: int = 0
    ungraded: int = 0
    peak_bytes: int = 0

    def __add__(self, other: "Effort") -> "Effort":
        sums = [mine + others for mine, others in zip(astuple(self), astuple(other), strict=True)]
        return replace(Effort(*sums), peak_bytes=max(self.peak_bytes, other.peak_bytes))

    def __sub__(self, earlier: "Effort") -> "Effort":
        differences = [mine - others for mine, others in zip(astuple(self), astuple(earlier), strict=True)]
        return replace(Effort(*differences), peak_bytes=self.peak_bytes)

    def shares(self) -> dict[str, float]:
        """Shares of layers that need not run, of lookups that found a kept state, and of padding."""
        return {
            "layers_saved": 1 - self.layers_run / max(1, self.layers_asked),
            "cache_hit_rate": self.hits / max(1, self.lookups),
            "padding": self.padding / max(1, self.tokens),
        }


class Workers(Protocol):
    """Whatever labels questions: a :class:`Labeller` here, processes, or a Ray cluster."""

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
        scorer: scores chains.
        options: of the run.
    """

    def __init__(self, scorer: Scorer | Writer, options: LabelOptions) -> None:
        self._scorer = scorer
        self._options = options
        self._verifier = Verifier(scorer, options.template, options.verify, options.reward)
        self.identity = Identity.of(scorer.backbone)
        self._priors = load_priors(options.search, self.identity.num_layers) or (lambda question: None)

    @classmethod
    def load(cls, options: LabelOptions, device: str | None = None) -> "Labeller":
        """Load the backbone that the options name, on the device given or theirs.

        On a CPU, labels are those of a single thread: where more threads come to other results in the last bits, one
        is used, so that no layout of workers changes a label.
        """
        collect_seldom()
        place = device or options.device
        backbone = load_backbone(options.backbone, place, options.dtype, bos=options.bos)
        if torch.get_num_threads() > 1 and backbone.exact and not backbone.threads_agree:
            torch.set_num_threads(1)
            console.print(
                f"{backbone.dtype_name} results depend on the number of threads here, so one is used; "
                "--workers uses more cores",
                style="dim",
            )
            backbone = load_backbone(options.backbone, place, options.dtype, bos=options.bos)
        return cls(make_scorer(backbone, options), options)

    @property
    def effort(self) -> Effort:
        """What the labels cost so far."""
        counters, trie = self._scorer.executor.counters, self._scorer.executor.trie
        failures = sum(grader.failures.total() for grader in self._verifier.graders)
        return Effort(
            counters.layers_asked,
            counters.layers_run,
            trie.lookups,
            trie.hits,
            counters.tokens,
            counters.padding,
            self._verifier.checked,
            self._verifier.flipped,
            failures,
            trie.peak_bytes,
        )

    def run(
        self, questions: Sequence[Question], on_round: Callable[[int], None] = lambda simulations: None
    ) -> Iterator[list[Label]]:
        """Verified labels of the questions, as they are finished."""
        options = self._options
        finished = label_questions(self._scorer, questions, options.plan, options.trees, self._priors, on_round)
        for pairs in finished:
            yield [self._verifier(question, label) for question, label in pairs]

    def close(self) -> None:
        """Nothing to let go of."""


def make_scorer(backbone: Backbone, options: LabelOptions) -> Scorer | Writer:
    """What gives chains the options' reward, with the options' cache."""
    cache_bytes = None if options.cache_gib is None else int(options.cache_gib * 2**30)
    cut = options.truncate == "left"
    if options.reward == "generate":
        return Writer(backbone, options.prompt, cache_bytes, cut)
    return Scorer(Executor(backbone, cache_bytes), options.metric, prompt=options.prompt, truncate=cut)


def blocks_of(questions: Sequence[Question], options: LabelOptions) -> list[list[Question]]:
    """The questions in pieces to hand out: at most ``trees`` each, and at least four a worker where there are enough.

    In the order of the driver, so that questions of about one length are together.
    """
    size = max(1, min(options.trees, len(questions) // (4 * options.workers)))
    ordered = in_order(questions)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def label_block(
    labeller: Labeller, questions: Sequence[Question], on_round: Callable[[int], None] = lambda simulations: None
) -> tuple[list[Label], Effort]:
    """Labels of a block and what they cost."""
    before = labeller.effort
    labels = [label for finished in labeller.run(questions, on_round) for label in finished]
    return labels, labeller.effort - before
