"""The held-out questions that an evaluation runs, and how each is scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.console import console
from cola_learn.errors import UserError
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.label.show import show_prompt
from cola_learn.label.store import LabelStore
from cola_learn.rewards.reward import reward_of
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.load_task import load_task, task_and_split
from cola_learn.tasks.question_files import is_file
from cola_learn.tasks.questions import KINDS, Question


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Questions to run.

    Attributes:
        questions: of all tasks, one task after another.
        names: task and split as the user named them, by the task and split of their questions.
        scorings: how the questions of each task are scored, labelled ones too: as the labels are; of a task without
            labels with the metric that is recommended for it, if the labels have theirs.
        labelled: the tasks that there are labels of.
    """

    questions: tuple[Question, ...]
    names: Mapping[tuple[str, str], tuple[str, str]]
    scorings: Mapping[str, Scoring]
    labelled: frozenset[str]

    def scoring(self, question: Question) -> Scoring:
        return self.scorings[question.task]

    @property
    def described(self) -> str:
        """Such as ``arc_easy validation, sciq validation (no labels)``."""
        return ", ".join(
            f"{task} {split}" + ("" if own in self.labelled else " (no labels)")
            for (own, _), (task, split) in self.names.items()
        )


def held_out(options: EvaluateOptions, stores: Sequence[LabelStore]) -> HeldOut:
    """The questions of ``--tasks``, less those that were labelled under other names.

    Raises:
        UserError: if any was labelled, a task is named twice, or too few are left.
    """
    manifest = stores[0].manifest
    named = [task_and_split(name) for name in options.tasks] or [
        (task, "validation") for task in dict.fromkeys(store.manifest.source.task for store in stores)
    ]
    own = {store.manifest.source.task.partition("[")[0]: store.manifest for store in stores}  # of a file perhaps a part
    labelled: dict[str, Question] = {}
    scorings: dict[str, Scoring] = {}
    for store in stores:
        theirs = store.questions()
        labelled |= theirs
        scorings |= {question.task: store.manifest.scoring for question in theirs.values()}
    if not labelled:
        raise UserError(f"--labels {options.labels} holds no labels yet")
    known = {question.content for question in labelled.values()}
    taken = {(question.key, question.digest) for question in labelled.values()}
    recommended = _recommended(next(iter(labelled.values())), manifest.scoring)
    questions: dict[str, Question] = {}
    names: dict[tuple[str, str], tuple[str, str]] = {}
    tasks = frozenset(scorings)
    for task, split in named:
        layout = own.get(task, manifest).source.layout if is_file(task) else None
        found = load_task(task, split, options.limit, options.seed, layout=layout)
        if seen := [question.key for question in found if (question.key, question.digest) in taken]:
            raise UserError(
                f"--tasks {task}:{split}: {len(seen)} of the questions, such as {min(seen)}, are among the labels; "
                "evaluate on a split or file that was not labelled"
            )
        if (key := (found[0].task, found[0].split)) in names:
            raise UserError(
                f"--tasks {task}:{split} has the name of another, {key[0]} {key[1]}; name each once, or rename the file"
            )
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
        if not reward_of(manifest.scoring.reward).fits(fresh[0]):
            reward = manifest.scoring.reward
            raise UserError(
                f"--tasks {task} has {KINDS[fresh[0].kind]}, and --labels were made with the reward {reward}; evaluate "
                "these with labels of their own"
            )
        names[key] = (task, split)
        scorings.setdefault(found[0].task, recommended.of(fresh))
        questions |= {question.key: question for question in fresh}
    if len(questions) < 2:
        raise UserError(f"--limit {options.limit} leaves one question; comparing policies needs at least 2")
    return HeldOut(tuple(questions.values()), names, scorings, tasks)


def _recommended(question: Question, labels: Scoring) -> Scoring:
    """The scoring of labels, with the metric ``auto`` where theirs is what that is for one of their questions."""
    auto = replace(labels, metric="auto")
    return auto if auto.of([question]) == labels else labels


def show_files(found: HeldOut, encoder: PromptEncoder) -> None:
    """Print how the questions of a user's own file are understood."""
    for (own, _), (task, _) in found.names.items():
        if is_file(task):
            first = next(question for question in found.questions if question.task == own)
            show_prompt(first, found.scoring(first), encoder, whole=False)
