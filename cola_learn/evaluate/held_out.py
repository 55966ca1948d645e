"""The held-out questions that an evaluation runs, and how each is scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.console import console
from cola_learn.errors import UserError
from cola_learn.evaluate.options import EvaluateOptions
from cola_learn.label.show import show_prompt
from cola_learn.label.store import LabelStore
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.files import is_file
from cola_learn.tasks.load import load_task, task_and_split
from cola_learn.tasks.questions import Question
from cola_learn.tasks.scoring import Scoring


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Questions to run.

    Attributes:
        questions: of all tasks, one task after another.
        names: task and split of each task, as the user named them, by the questions' task.
        scorings: how the questions of each task are scored: as its labels are, or, of a task without labels, with the
            metric that is recommended for it.
        labelled: the tasks that there are labels of.
    """

    questions: tuple[Question, ...]
    names: Mapping[str, tuple[str, str]]
    scorings: Mapping[str, Scoring]
    labelled: frozenset[str]

    def scoring(self, question: Question) -> Scoring:
        return self.scorings[question.task]

    @property
    def described(self) -> str:
        """Such as ``arc_easy validation, sciq validation (no labels)``."""
        return ", ".join(
            f"{task} {split}" + ("" if own in self.labelled else " (no labels)")
            for own, (task, split) in self.names.items()
        )


def held_out(options: EvaluateOptions, stores: Sequence[LabelStore]) -> HeldOut:
    """The questions of ``--tasks``, less those that were labelled under other names.

    Raises:
        UserError: if any was labelled, a task is named twice, or too few are left.
    """
    manifest = stores[0].manifest
    named = [task_and_split(name) for name in options.tasks] or [
        (task, "validation") for task in dict.fromkeys(store.manifest.task for store in stores)
    ]
    own = {store.manifest.task: store.manifest for store in stores}
    labelled = {key: question for store in stores for key, question in store.questions().items()}
    known = {question.content for question in labelled.values()}
    known_tasks = {question.task: store.manifest.scoring for store in stores for question in store.questions().values()}
    questions: dict[str, Question] = {}
    names, scorings = {}, {}
    for task, split in named:
        layout = Layout(**own.get(task, manifest).layout) if is_file(task) else None
        found = load_task(task, split, options.limit, options.seed, layout=layout)
        if seen := labelled.keys() & {question.key for question in found}:
            raise UserError(
                f"--tasks {task}:{split}: {len(seen)} of the questions, such as {min(seen)}, are among the labels; "
                "evaluate on a split or file that was not labelled"
            )
        if again := questions.keys() & {question.key for question in found}:
            raise UserError(f"--tasks {task}:{split}: {len(again)} questions, such as {min(again)}, are named twice")
        fresh = [question for question in found if question.content not in known]
        if len(fresh) < min(2, len(found)):
            raise UserError(
                f"--tasks {task}: its questions are those that were labelled, under other names; evaluate on others"
            )
        if len(fresh) < len(found):
            console.print(
                f"{len(found) - len(fresh)} of {len(found)} held-out questions of {task} are among the labels under "
                "other names and are left out"
            )
        name = fresh[0].task
        if fresh[0].open != (manifest.prompt is not None):
            kinds = ("open questions", "questions with choices")
            mine, theirs = kinds if fresh[0].open else kinds[::-1]
            raise UserError(f"--tasks {task} has {mine}, --labels {theirs}; evaluate these with labels of their own")
        names[name] = (task, split)
        scorings[name] = known_tasks.get(name) or _scoring_of(fresh, manifest.scoring)
        questions |= {question.key: question for question in fresh}
    if len(questions) < 2:
        raise UserError(f"--limit {options.limit} leaves one question; comparing policies needs at least 2")
    labels = frozenset(known_tasks)
    return HeldOut(tuple(questions.values()), names, scorings, labels)


def _scoring_of(questions: Sequence[Question], labels: Scoring) -> Scoring:
    return labels if questions[0].open else replace(labels, metric="auto").of(questions)


def show_files(found: HeldOut, encoder: PromptEncoder) -> None:
    """Print how the questions of a user's own file are understood."""
    for name, (task, _) in found.names.items():
        if is_file(task):
            first = next(question for question in found.questions if question.task == name)
            show_prompt(first, found.scoring(first), encoder, whole=False)
