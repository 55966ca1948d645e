"""Scores of every chain of a menu on every question as arrays, from stores of one menu."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path

import numpy
from numpy.typing import NDArray
from scipy.special import softmax

from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.label.records import Label, menu_of
from cola_learn.label.store import LabelStore
from cola_learn.rewards.reward import REWARDS
from cola_learn.rewards.scores import LEAST_MARGIN, LEAST_PROBABILITY, Measure, measured
from cola_learn.rewards.temperature import task_temperatures
from cola_learn.tasks.questions import Question

Array = NDArray[numpy.float64]


def open_stores(folder: Path, named: str = "--labels") -> list[LabelStore]:
    """The label store in a folder, or all stores in its subfolders, of one backbone.

    Raises:
        UserError: if there is none, or they cannot be read together.
    """
    folder = Path(folder)
    inner = sorted(file.parent for file in folder.glob("*/manifest.json"))
    if (folder / "manifest.json").exists() or not inner:
        return [LabelStore.open(folder, named)]
    stores = [LabelStore.open(one, named) for one in inner]
    for store in stores[1:]:
        if name := apart(stores[0], store):
            raise UserError(f"{named} {folder}: {inner[0].name} and {store.folder.name} differ in {name}")
    first: dict[str, LabelStore] = {}
    for store in stores:
        other = first.setdefault(store.manifest.source.task, store)
        if other.manifest.scoring != store.manifest.scoring:
            raise UserError(f"{named} {folder}: {other.folder.name} and {store.folder.name} score one task in two ways")
    tell_apart(stores)
    return stores


def tell_apart(stores: Sequence[LabelStore]) -> None:
    """Call a store's task by its folder where another store has other questions of the same names, as of two files
    called train.jsonl: questions are one by their digest."""
    known: dict[str, str] = {}
    for store in stores:
        own = store.digests()
        if any(digest and known.get(key, digest) not in ("", digest) for key, digest in own.items()):
            store.alias = str(store.folder)
            own = store.digests()
        known |= own


_ALIKE = ("model.fingerprint", "model.special_tokens", "scoring.template", "plan.space")


def apart(one: LabelStore, other: LabelStore, names: Sequence[str] = _ALIKE) -> str | None:
    """The first property in which two stores differ that are to be read together; None where there is none."""
    return next((name for name in names if attrgetter(name)(one.manifest) != attrgetter(name)(other.manifest)), None)


def of_one_menu(stores: Sequence[LabelStore]) -> bool:
    """Whether all questions were run through the same chains, and it is known what each gains."""
    return all(map(_has_gains, stores)) and bool(menu_of(label for store in stores for label in store))


def _has_gains(store: LabelStore) -> bool:
    """Whether margins are gains, or scores of options are kept that tell them."""
    reward = REWARDS.get(store.manifest.scoring.reward)
    kept = store.manifest.plan.keep_scores
    return reward is not None and (reward.continuous or (reward.of_options and kept))


def questions_of(store: LabelStore) -> list[Question]:
    """The questions of a store's labels, in the order of the labels.

    Raises:
        UserError: if the task no longer has one of them, or has another one in its place.
    """
    questions = store.questions()
    return [questions[label.key] for label in store]


def by_measure(labels: Sequence[Label], store: LabelStore, measure: Measure | None, named: str) -> list[Label]:
    """Labels of responses with rewards and margins by another measure than that which they were made by, told from the
    scores kept.

    Args:
        labels: of the store, or of some that are scored like it.
        store: where they are.
        measure: None leaves them as they are.
        named: the option that named the store, for errors.

    Raises:
        UserError: if they are of no responses, or their scores were not kept.
    """
    own = REWARDS.get(store.manifest.scoring.reward)
    if measure is None or (own and measure == own.measure):
        return list(labels)
    if own is None or not own.continuous or not all(label.base.scores for label in labels):
        raise UserError(f"{named} {store.folder}: {measure} cannot be told; label with --reward {measure}")
    found = []
    for label in labels:
        *halves, divergence, accepted = numpy.array([trial.scores for trial in label.trials]).T
        logprobs = numpy.mean(halves, axis=0)  # nearly: halves may be of different lengths
        values = zip(*measured(measure, logprobs, logprobs[0], divergence, accepted), strict=True)
        pairs = zip(label.trials, values, strict=True)
        trials = tuple(replace(trial, reward=float(one), margin=float(other)) for trial, (one, other) in pairs)
        found.append(replace(label, trials=trials))
    return found


@dataclass(frozen=True, eq=False)
class ScoreMatrix:
    """Q questions, C chains, up to O options.

    Attributes:
        chains: the menu, the base chain first.
        questions: what they were run on.
        rewards: 1 where the best option is the right one, else 0; or how good a response is, ``[Q, C]``.
        soft: soft rewards in nats, ``[Q, C]``: log-probability of the right option, as in ``rewards.temperature``, or
            the margin of a response.
        scores: of every option in nats, minus infinity behind a question's last one, ``[Q, C, O]``; no options where
            responses are given.
        temperatures: at which the scores of each task are probabilities, fitted on training questions.
    """

    chains: tuple[Chain, ...]
    questions: tuple[Question, ...]
    rewards: Array
    soft: Array
    scores: Array
    temperatures: Mapping[str, float]

    @classmethod
    def of_options(
        cls,
        chains: tuple[Chain, ...],
        questions: Sequence[Question],
        scores: Array,
        temperatures: Mapping[str, float] | None = None,
    ) -> "ScoreMatrix":
        """Of the scores of options ``[Q, C, O]``; temperatures are fitted on what the base chain makes of them, by
        default."""
        gold = numpy.array([question.gold for question in questions])
        if temperatures is None:
            base = [scores[row, 0, : len(one.choices)].tolist() for row, one in enumerate(questions)]
            temperatures = task_temperatures([one.task for one in questions], gold.tolist(), base)
        right = numpy.take_along_axis(_softmax(scores, questions, temperatures), gold[:, None, None], 2)[:, :, 0]
        rewards = (scores.argmax(-1) == gold[:, None]).astype(float)
        soft = numpy.log(numpy.maximum(right, LEAST_PROBABILITY))
        return cls(chains, tuple(questions), rewards, soft, scores, temperatures)

    @classmethod
    def load(
        cls,
        stores: Sequence[LabelStore],
        named: str = "--labels",
        temperatures: Mapping[str, float] | None = None,
        measure: Measure | None = None,
    ) -> "ScoreMatrix":
        """All labels of stores that were made with one menu.

        Args:
            stores: of one model.
            named: the option that named them, for errors.
            temperatures: of training questions, where these are held out; else they are fitted.
            measure: of responses, another one than that which they were labelled by.

        Raises:
            UserError: if a store has no scores, or another menu than the first, or they are of different kinds.
        """
        questions: list[Question] = []
        labels: list[Label] = []
        for store in stores:
            if not _has_gains(store):
                raise UserError(f"{named} {store.folder} has no scores of options; label with --config menu")
            if store.manifest.scoring.reward != stores[0].manifest.scoring.reward:
                raise UserError(f"{named} {store.folder} and {stores[0].folder} have different rewards")
            questions += questions_of(store)
            labels += store
        if not labels:
            raise UserError(f"{named} {stores[0].folder.parent} holds no labels yet")
        chains = tuple(trial.chain for trial in labels[0].trials)
        for label in labels:
            if tuple(trial.chain for trial in label.trials) != chains:
                raise UserError(f"{named}: question {label.key} was run through another menu than {labels[0].key}")
        if REWARDS[stores[0].manifest.scoring.reward].continuous or measure:
            labels = by_measure(labels, stores[0], measure, named)
            rewards, margins = (
                numpy.array([[getattr(trial, name) for trial in label.trials] for label in labels])
                for name in ("reward", "margin")
            )
            soft = numpy.maximum(margins, LEAST_MARGIN)
            return cls(chains, tuple(questions), rewards, soft, numpy.zeros((*soft.shape, 0)), {})
        most = max(len(question.choices) for question in questions)
        scores = numpy.full((len(labels), len(chains), most), -numpy.inf)
        for row, label in enumerate(labels):
            scores[row, :, : len(label.base.scores)] = [trial.scores for trial in label.trials]
        return cls.of_options(chains, questions, scores, temperatures)

    def __len__(self) -> int:
        return len(self.questions)

    def take(self, rows: NDArray[numpy.int64]) -> "ScoreMatrix":
        """Some of the questions."""
        questions = tuple(self.questions[row] for row in rows)
        return replace(
            self, questions=questions, rewards=self.rewards[rows], soft=self.soft[rows], scores=self.scores[rows]
        )

    @cached_property
    def tasks(self) -> NDArray[numpy.str_]:
        """Task of each question, ``[Q]``."""
        return numpy.array([question.task for question in self.questions])

    @cached_property
    def depths(self) -> Array:
        """Layers that each chain runs, ``[C]``."""
        return numpy.array([chain.depth for chain in self.chains], dtype=float)

    @cached_property
    def gold(self) -> NDArray[numpy.int64]:
        """Index of the right option, ``[Q]``."""
        return numpy.array([question.gold for question in self.questions])

    @cached_property
    def probabilities(self) -> Array:
        """Softmax over the options at the temperature of each task, ``[Q, C, O]``."""
        return _softmax(self.scores, self.questions, self.temperatures)


def _softmax(scores: Array, questions: Sequence[Question], temperatures: Mapping[str, float]) -> Array:
    own = numpy.array([temperatures.get(question.task, 1.0) for question in questions])
    found: Array = softmax(scores / own[:, None, None], axis=-1)
    return found
