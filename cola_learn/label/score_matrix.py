"""Scores of every chain of a menu on every question as arrays, from the stores of ``label cross``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy
from numpy.typing import NDArray
from scipy.special import softmax

from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.label.records import menu_of
from cola_learn.label.store import LabelStore
from cola_learn.rewards.reward import REWARDS
from cola_learn.rewards.temperature import LEAST_PROBABILITY, task_temperatures
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
        other = first.setdefault(store.manifest.task, store)
        if other.manifest.scoring != store.manifest.scoring:
            raise UserError(f"{named} {folder}: {other.folder.name} and {store.folder.name} score one task in two ways")
    tell_apart(stores)
    return stores


def tell_apart(stores: Sequence[LabelStore]) -> None:
    """Call a store's task by its folder where another store has other questions of the same names, as of two files
    called train.jsonl: questions are one by their digest."""
    known: dict[str, str | None] = {}
    for store in stores:
        own = store.digests()
        if any(digest and known.get(key) not in (None, digest) for key, digest in own.items()):
            store.alias = str(store.folder)
            own = store.digests()
        known |= own


_ALIKE = ("fingerprint", "special_tokens", "template", "space")


def apart(one: LabelStore, other: LabelStore, names: Sequence[str] = _ALIKE) -> str | None:
    """The first property in which two stores differ that are to be read together; None where there is none."""
    return next((name for name in names if getattr(one.manifest, name) != getattr(other.manifest, name)), None)


def of_one_menu(stores: Sequence[LabelStore]) -> bool:
    """Whether all questions were run through the same chains, and the scores of their options kept."""
    return all(map(_has_options, stores)) and bool(menu_of(label for store in stores for label in store))


def _has_options(store: LabelStore) -> bool:
    """Whether the scores of options are kept, and tell the reward."""
    reward = REWARDS.get(store.manifest.reward)
    return store.manifest.scores and reward is not None and reward.of_options


def questions_of(store: LabelStore) -> list[Question]:
    """The questions of a store's labels, in the order of the labels.

    Raises:
        UserError: if the task no longer has one of them, or has another one in its place.
    """
    questions = store.questions()
    return [questions[label.key] for label in store]


@dataclass(frozen=True, eq=False)
class ScoreMatrix:
    """Q questions, C chains, up to O options.

    Attributes:
        chains: the menu, the base chain first.
        questions: what they were run on.
        scores: of every option in nats, minus infinity behind a question's last one, ``[Q, C, O]``.
        temperatures: at which the scores of each task are probabilities, fitted on training questions.
    """

    chains: tuple[Chain, ...]
    questions: tuple[Question, ...]
    scores: Array
    temperatures: Mapping[str, float]

    @classmethod
    def load(
        cls, stores: Sequence[LabelStore], named: str = "--labels", temperatures: Mapping[str, float] | None = None
    ) -> "ScoreMatrix":
        """All labels of stores that were made with one menu.

        Args:
            stores: of one model.
            named: the option that named them, for errors.
            temperatures: of training questions, where these are held out; else they are fitted.

        Raises:
            UserError: if a store has no scores, or another menu than the first.
        """
        questions: list[Question] = []
        scores: list[list[tuple[float, ...]]] = []
        chains: tuple[Chain, ...] | None = None
        for store in stores:
            if not _has_options(store):
                raise UserError(f"{named} {store.folder} has no scores of options; python -m cola_learn.label cross")
            questions += questions_of(store)
            for label in store:
                menu = tuple(trial.chain for trial in label.trials)
                chains = chains or menu
                if menu != chains:
                    raise UserError(f"{named} {store.folder}: question {label.key} was run through another menu")
                scores.append([trial.scores for trial in label.trials])
        if chains is None:
            raise UserError(f"{named} {stores[0].folder.parent} holds no labels yet")
        most = max(len(rows[0]) for rows in scores)
        filled = numpy.full((len(scores), len(chains), most), -numpy.inf)
        for row, rows in enumerate(scores):
            filled[row, :, : len(rows[0])] = rows
        if temperatures is None:
            tasks, gold = [question.task for question in questions], [question.gold for question in questions]
            temperatures = task_temperatures(tasks, gold, [rows[0] for rows in scores])
        return cls(chains, tuple(questions), filled, temperatures)

    def __len__(self) -> int:
        return len(self.questions)

    def take(self, rows: NDArray[numpy.int64]) -> "ScoreMatrix":
        """Some of the questions."""
        return ScoreMatrix(
            self.chains, tuple(self.questions[row] for row in rows), self.scores[rows], self.temperatures
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
        temperatures = numpy.array([self.temperatures.get(task, 1.0) for task in self.tasks.tolist()])
        found: Array = softmax(self.scores / temperatures[:, None, None], axis=-1)
        return found

    @cached_property
    def rewards(self) -> Array:
        """1 where the best option is the right one, else 0, ``[Q, C]``."""
        return (self.scores.argmax(-1) == self.gold[:, None]).astype(float)

    @cached_property
    def soft(self) -> Array:
        """The soft reward in nats, ``[Q, C]``: log-probability of the right option, as in ``tasks.temperature``."""
        right = numpy.take_along_axis(self.probabilities, self.gold[:, None, None], 2)[:, :, 0]
        return numpy.log(numpy.maximum(right, LEAST_PROBABILITY))
