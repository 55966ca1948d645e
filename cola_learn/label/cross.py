"""Every chain of a menu on every question: dense labels, the same chains for all questions."""

from contextlib import closing
from itertools import groupby
from pathlib import Path

from cola_learn.backbone.load import load_tokenizer
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.console import console, next_command
from cola_learn.errors import UserError
from cola_learn.files import writable_folder
from cola_learn.label.label_options import CrossOptions
from cola_learn.label.manifest import Manifest
from cola_learn.label.plan import Job, Plan
from cola_learn.label.run import fill_store, start_workers
from cola_learn.label.show import check_lengths, show_prompt
from cola_learn.label.store import LabelStore
from cola_learn.rewards.reward import REWARDS
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.listed import LARGEST
from cola_learn.search.methods import Menu
from cola_learn.tasks.load_task import load_task, task_and_split
from cola_learn.tasks.question_files import is_file
from cola_learn.tasks.questions import Question


def run_cross(options: CrossOptions) -> list[LabelStore]:
    """Run the menu on the tasks, one store each; what is there already is not run again.

    The stores are label stores like any other, with the score of every option for each (question, chain) beside reward
    and margin: ``scores``.

    Raises:
        UserError: for options that cannot be met.
    """
    if not options.tasks:
        raise UserError("--tasks is empty; give task:split, such as arc_easy:test")
    lines = sum(bool(line.split("#")[0].strip()) for line in _text(options.menu).splitlines())
    if lines > LARGEST:
        raise UserError(f"--menu {options.menu} has {lines} chains; at most {LARGEST} are run")
    plan = Plan(Menu(options.menu), luck=False, neighbours=0, keep_scores=True, seed=options.seed)
    pools = [_pool(name, options) for name in options.tasks]
    scorings = [Scoring(metric=options.metric).of(questions) for _, _, questions in pools]
    stores: list[LabelStore] = []
    encoder = PromptEncoder(load_tokenizer(options.backbone))
    for (task, _, questions), scoring in zip(pools, scorings, strict=True):
        if is_file(task):
            show_prompt(questions[0], scoring, encoder, whole=False)
        check_lengths(questions, scoring, encoder, options.backbone)
    # The model is loaded once for all tasks that are scored alike.
    ordered = sorted(zip(options.tasks, pools, scorings, strict=True), key=lambda one: scorings.index(one[2]))
    for scoring, group in groupby(ordered, key=lambda one: one[2]):
        job = Job(options.backbone, scoring, plan, options.resources)
        with closing(start_workers(job)) as workers:
            for name, (task, split, questions), _ in group:
                console.rule(f"{name} ({len(stores) + 1} of {len(pools)}, {scoring.metric})")
                folder = options.output / f"{questions[0].task}-{split}"  # parts of a split share no question
                writable_folder(folder)
                manifest = Manifest.of(workers.identity, job, task, questions[0], options.layout)
                store = LabelStore.create(folder, manifest)
                fill_store(store, workers, questions, plan, "cross").print()
                console.print(f"labels      {folder}", soft_wrap=True)
                stores.append(store)
    next_command(
        ["python -m cola_learn.train --config configs/train/menu.yaml", "--labels", options.output],
        ["python -m cola_learn.label inspect", options.output],
    )
    return stores


def _pool(name: str, options: CrossOptions) -> tuple[str, str, list[Question]]:
    """Task, split and questions that a ``task:split`` names.

    Raises:
        UserError: if it names none, or open questions.
    """
    task, split = task_and_split(name)
    layout = options.layout if is_file(task) else None
    questions = load_task(task, split, options.limit, options.seed, layout=layout)
    if not REWARDS[Scoring().of(questions).reward].of_options:
        raise UserError(f"--tasks {name} has open questions; a menu is run on questions with choices")
    return task, split.partition("[")[0], questions


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--menu {file} cannot be read ({error}); python -m cola_learn.label menu makes one") from None
