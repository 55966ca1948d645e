"""What an evaluation compares on what: opened, and checked to belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.load import fingerprint_of, load_tokenizer
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.console import console
from cola_learn.errors import UserError
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.policies import Learner, Policy, policy_named
from cola_learn.evaluate.report import EXPLAINED
from cola_learn.files import digest, sha256
from cola_learn.label.manifest import settings_by_content
from cola_learn.label.score_matrix import open_stores
from cola_learn.label.store import LabelStore
from cola_learn.label.summary import show_prompt
from cola_learn.rewards.prompts import in_template
from cola_learn.rewards.reward import reward_of, use_reward
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.load_task import load_task, task_and_split
from cola_learn.tasks.question_files import is_file
from cola_learn.tasks.questions import KINDS, Question
from cola_learn.train.controller import Controller
from cola_learn.train.hub import controller_files, fetch_controller


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
    tokenizer = partial(load_tokenizer, options.backbone or manifest.model.name)
    for task, split in named:
        layout = own.get(task, manifest).source.layout if is_file(task) else None
        found = in_template(load_task(task, split, options.limit, options.seed, layout=layout), tokenizer)
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


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is compared on what.

    Attributes:
        options: of the evaluation.
        stores: labels, of training questions.
        others: with ``--held`` the stores of held-out questions; else empty.
        held: without, the questions to run.
        controllers, policies: those compared; controllers by name.
    """

    options: EvaluateOptions
    stores: Sequence[LabelStore]
    others: Sequence[LabelStore]
    held: HeldOut | None
    controllers: Mapping[str, Controller]
    policies: Sequence[Policy | Learner]

    @property
    def backbone_name(self) -> str:
        return self.options.backbone or self.stores[0].manifest.model.name

    def load_backbone(self) -> Backbone:
        """The frozen model, checked to be the one that the labels and the controllers are of."""
        options, manifest = self.options, self.stores[0].manifest
        dtype = options.dtype or manifest.model.dtype
        return manifest.load_backbone(f"--labels {options.labels}", options.backbone, options.device, dtype)

    def identity(self) -> str:
        """Changes with everything that the numbers depend on."""
        options = self.options
        without = ("tracking", "wandb", "output", "trees", "workers", "executor", "ray_address", "cache_gib")
        settings = {key: value for key, value in asdict(options).items() if key not in without}
        settings["search"] = [options.search.name, settings_by_content(options.search)]
        settings["policies"] = {path: _source_digest(path) for path in options.policies}
        settings["fingerprint"] = fingerprint_of(self.backbone_name)
        questions = self.held.questions if self.held else ()
        settings["questions"] = {question.key: question.digest for question in questions}
        controllers = [file for folder in options.controllers for file in controller_files(fetch_controller(folder))]
        searched = open_stores(options.searched, "--searched") if options.searched else []
        stores = (*self.stores, *self.others, *searched)
        return digest(settings, *controllers, *(file for store in stores for file in store.files()))


def open_inputs(options: EvaluateOptions) -> Inputs:
    """Everything that the options name.

    Raises:
        UserError: if any of it cannot be read, or does not belong together.
    """
    if options.reward:
        use_reward(options.reward)
    stores = open_stores(options.labels)
    others = open_stores(options.held, "--held") if options.held else []
    manifest = stores[0].manifest
    policies = [policy_named(path) for path in options.policies]
    for path, policy in zip(options.policies, policies, strict=True):
        if options.held is None and isinstance(policy, Learner):
            raise UserError(f"--policies {path} learns from the scores of a menu; give --held")
    called = _names(options.controllers)
    names = [*called, *(policy.name for policy in policies)]
    if taken := [name for name in names if name in EXPLAINED or names.count(name) > 1]:
        raise UserError(f"{taken[0]} is the name of another policy; rename the folder of --controllers, or the policy")
    controllers = {}
    for name, folder in zip(called, options.controllers, strict=True):
        controllers[name] = controller = Controller.from_pretrained(folder)
        controller.config.check_backbone(manifest.model.num_layers, manifest.model.fingerprint, manifest.model.name)
    held = None if options.held else held_out(options, stores)
    return Inputs(options, stores, others, held, controllers, policies)


def _source_digest(path: str) -> str:
    """SHA-256 of the file that what a dotted path names is written in; "" if it is in none."""
    file = getattr(import_module(path.rpartition(".")[0]), "__file__", None)
    return sha256(Path(file)) if file else ""


def _names(folders: Sequence[Path]) -> list[str]:
    """What controllers are called: the only one just that, several by their folders."""
    if len(folders) == 1:
        return ["controller"]
    names = [folder.parent.name if folder.name == "controller" else folder.name for folder in folders]
    return [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
