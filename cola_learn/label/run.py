"""The label stage: questions in, label store out."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from cola_learn.backbone.load import load_backbone, load_tokenizer
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.command import settings_of
from cola_learn.console import console, next_command, progress_bar
from cola_learn.errors import UserError
from cola_learn.files import writable_folder
from cola_learn.label.label_options import LabelOptions
from cola_learn.label.labeller import Effort, Labeller, Workers
from cola_learn.label.manifest import Identity, Manifest
from cola_learn.label.plan import Job, Plan
from cola_learn.label.responses import as_prompt, write_responses
from cola_learn.label.store import LabelStore
from cola_learn.label.summary import Tally, check_lengths, show_prompt
from cola_learn.rewards.prompts import in_template
from cola_learn.rewards.reward import reward_of
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.load_task import load_task, task_and_split
from cola_learn.tasks.question_files import is_file
from cola_learn.tasks.questions import Question
from cola_learn.tracking import Tracker

_SECONDS_BETWEEN_LOGS = 10.0
_LEAST = 2  # questions with a good chain that training needs


def run_label(options: LabelOptions) -> list[LabelStore]:
    """Label tasks as the options say, resuming what is there; prints summaries and the next command. With
    ``show_prompt`` it only prints a prompt.

    Returns:
        A store for each task: in the folder named, or below it where there are several tasks.

    Raises:
        UserError: for options that cannot be met.
    """
    stores, good = label_tasks(options)
    if options.show_prompt:
        return stores
    if good < _LEAST:
        console.print(f"{good} questions have a good chain; training needs {_LEAST}: label more, or search longer")
        next_command(["python -m cola_learn.label inspect", options.output])
        return stores
    train = options.output.parent / "train" if options.output.name == "labels" else f"{options.output}-train"
    texts = reward_of(stores[0].manifest.scoring.reward).continuous
    config = ["--config", "texts" if texts else "menu"] if options.plan.keep_scores else []
    next_command(
        ["python -m cola_learn.label inspect", options.output],
        ["python -m cola_learn.train", *config, "--labels", options.output, "--output", train],
    )
    return stores


def label_tasks(options: LabelOptions) -> tuple[list[LabelStore], int]:
    """``run_label`` without saying what is next.

    Returns:
        The stores, and how many questions have a good chain.
    """
    tokenizer = cache(partial(load_tokenizer, options.backbone))
    pools = [_pool(name, options, tokenizer) for name in options.tasks]
    encoder = PromptEncoder(tokenizer(), options.scoring.bos)
    for pool in pools:
        if options.show_prompt or len(pools) == 1 or is_file(pool.task):
            show_prompt(pool.questions[0], pool.scoring, encoder, whole=options.show_prompt)
    if options.show_prompt:
        return [], 0
    for pool in pools:
        check_lengths(pool.questions, pool.scoring, encoder, options.backbone)
        _free(pool.folder, len(pools) > 1)
    if options.responses.own:
        pools = _with_responses(pools, options)
    stores: list[LabelStore] = []
    good = 0
    scorings = [pool.scoring for pool in pools]
    for scoring in dict.fromkeys(scorings):  # the model is loaded once for all tasks that are scored alike
        job = Job(options.backbone, scoring, options.plan, options.resources)
        with closing(start_workers(job)) as workers:
            for pool in (pool for pool in pools if pool.scoring == scoring):
                if len(pools) > 1:
                    console.rule(f"{pool.name} ({len(stores) + 1} of {len(pools)}, {_judged(scoring)})")
                store, tally = _label(pool, workers, job, options)
                stores.append(store)
                good += sum(tally.depths.values())
    return stores, good


def _judged(scoring: Scoring) -> str:
    return scoring.metric if reward_of(scoring.reward).of_options else scoring.reward


def _with_responses(pools: Sequence["_Pool"], options: LabelOptions) -> list["_Pool"]:
    """The pools, whose prompts the plain model has answered."""
    where = options.resources
    backbone = load_backbone(options.backbone, where.device, where.dtype, bos=options.scoring.bos)
    identity, found = Identity.of(backbone), list[_Pool]()
    for pool in pools:
        job = Job(options.backbone, pool.scoring, options.plan, where)
        store = LabelStore.create(pool.folder, _manifest(pool, identity, job, options))
        written = write_responses(backbone, store, pool.questions, options.responses, options.plan.seed)
        found.append(pool._replace(questions=written))
    return found


class _Pool(NamedTuple):
    """Questions of one task, and where their labels go."""

    name: str
    task: str
    questions: list[Question]
    scoring: Scoring
    folder: Path
    layout: Layout | None


def _pool(name: str, options: LabelOptions, tokenizer: Callable[[], Any]) -> _Pool:
    task, split = task_and_split(name)
    files = [is_file(task_and_split(one)[0]) for one in options.tasks]
    layout = options.layout if is_file(task) or not any(files) else None
    answered = not options.responses.own
    loaded = load_task(task, split, options.limit, options.plan.seed, layout=layout, answered=answered)
    questions = in_template(loaded, tokenizer)
    if not answered:
        questions = [as_prompt(question, options.scoring.template) for question in questions]
    part = f"{questions[0].task}-{split.partition('[')[0]}"  # parts of a split share no question
    folder = options.output / part if len(options.tasks) > 1 else options.output
    return _Pool(name, task, questions, options.scoring.of(questions), folder, layout)


def _free(folder: Path, below: bool) -> None:
    """Make the folder of a store, which is not to be above or below another one.

    Raises:
        UserError: if it cannot be written, or is.
    """
    if (folder.parent / "manifest.json").exists() if below else any(folder.glob("*/manifest.json")):
        held = "the labels of one task" if below else "label stores of several tasks"
        raise UserError(f"--output {folder.parent if below else folder} holds {held}; name another folder")
    writable_folder(folder)


def _label(pool: _Pool, workers: Workers, job: Job, options: LabelOptions) -> tuple[LabelStore, Tally]:
    """Label one task; returns what its labels hold, too."""
    store = LabelStore.create(pool.folder, _manifest(pool, workers.identity, job, options))
    finished = store.keys() >= {question.key for question in pool.questions}
    tracking = "disabled" if finished else options.tracking
    settings = settings_of(options)
    with Tracker("label", tracking, pool.folder, settings, options.wandb, step="questions") as tracker:
        tally = fill_store(store, workers, pool.questions, job.plan, "label", tracker)
        _log_summary(tracker, tally, store)
    tally.print(reward_of(job.scoring.reward).continuous)
    console.print(f"labels      {pool.folder}", soft_wrap=True)
    return store, tally


def _manifest(pool: _Pool, identity: Identity, job: Job, options: LabelOptions) -> Manifest:
    return Manifest.of(identity, job, pool.task, pool.questions[0], pool.layout, options.responses)


def start_workers(job: Job) -> Workers:
    """What labels the questions: this process, several, or a Ray cluster."""
    if job.resources.executor == "ray":
        from cola_learn.label.ray_workers import RayWorkers

        return RayWorkers(job)
    if job.resources.workers > 1:
        from cola_learn.label.processes import ProcessWorkers

        return ProcessWorkers(job)
    return Labeller.load(job)


def fill_store(
    store: LabelStore,
    workers: Workers,
    questions: Sequence[Question],
    plan: Plan,
    title: str,
    tracker: Tracker | None = None,
) -> Tally:
    """Label the questions that the store lacks, writing as they are finished; returns what all of them hold."""
    with store.writing():
        store.check(questions)
        store.keep(questions)
        keys = {question.key for question in questions}
        budget_each = plan.budget(workers.identity.num_layers)
        tally = Tally(workers.identity.num_layers, budget_each)
        done = set()
        for label in store:
            if label.key in keys:
                tally.add(label)
                done.add(label.key)
        missing = [question for question in questions if question.key not in done]
        if done:
            console.print(f"{title}: {len(done)} of {len(questions)} questions are done already")
        with progress_bar(shown=bool(missing)) as bar:
            task = bar.add_task(title, total=len(missing) * budget_each * (1 + plan.luck), unit="chains", note="")
            logged = 0.0
            for labels in workers.run(missing, lambda simulations: bar.advance(task, simulations)):
                store.append(labels)
                for label in labels:
                    tally.add(label)
                bar.update(task, note=_note(tally))
                if tracker and time.monotonic() - logged > _SECONDS_BETWEEN_LOGS:
                    logged = time.monotonic()
                    rate = bar.tasks[0].finished_speed or bar.tasks[0].speed or 0.0
                    tracker.log(_metrics(tally, workers.effort) | {"chains_per_second": rate})
        store.compact(question.key for question in questions)
    if missing:
        print_effort(workers.effort)
        if tracker:
            tracker.log(_metrics(tally, workers.effort))
    return tally


def print_effort(effort: Effort) -> None:
    """What the searches cost, and what came of running chains again alone."""
    usage, shares = effort.usage, effort.usage.shares()
    if usage.layers_asked:  # not where chains only write
        console.print(
            f"layers saved by prefix sharing: {shares['layers_saved']:.0%}; prefix-cache hit rate: "
            f"{shares['cache_hit_rate']:.0%} ({usage.peak_bytes / 2**30:.2f} GiB); padding: {shares['padding']:.1%}",
            style="dim",
        )
    console.print(f"re-verified in isolation: {effort.checked} chains, {effort.flipped} no longer correct", style="dim")
    if effort.ungraded:
        console.print(f"written answers that could not be graded and count as wrong: {effort.ungraded}", style="dim")


def _note(tally: Tally) -> str:
    numbers = tally.numbers()
    lucky = f" luck {numbers['lucky']:.0%}" if "lucky" in numbers else ""
    return (
        f"base {numbers['base_accuracy']:.0%} shorter {numbers['shortened']:.0%} "
        f"corrected {numbers['corrected']:.0%}{lucky}"
    )


def _metrics(tally: Tally, effort: Effort) -> dict[str, float]:
    found: dict[str, float] = {f"found/{name}": value for name, value in tally.numbers().items()}
    found["questions"] = tally.questions
    return found | {f"executor/{name}": value for name, value in effort.usage.shares().items()}


def _log_summary(tracker: Tracker, tally: Tally, store: LabelStore) -> None:
    numbers = tally.numbers()
    beyond = tally.beyond_luck
    if beyond:
        numbers |= {"beyond_luck": beyond.mean, "beyond_luck_low": beyond.low, "beyond_luck_high": beyond.high}
    tracker.summary(numbers)
    tracker.curves("found_so_far", "simulations", tally.found_so_far())
    tracker.histogram("depth/shortest_good", [depth for depth, count in tally.depths.items() for _ in range(count)])
    found = max(1, sum(tally.depths.values()))
    tracker.bars("layers/skip_rate", "layer", {str(layer): count / found for layer, count in enumerate(tally.skipped)})
    tracker.bars(
        "layers/extra_runs", "layer", {str(layer): count / found for layer, count in enumerate(tally.repeated)}
    )
    tracker.table("examples", tally.EXAMPLE_COLUMNS, tally.examples)
    tracker.output(store.artifact())
