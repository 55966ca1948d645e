"""The label stage: questions in, label store out."""

import time
from collections.abc import Sequence
from contextlib import closing

from cola_learn.backbone.load import load_tokenizer
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.command import settings_of
from cola_learn.console import console, next_command, progress_bar
from cola_learn.files import writable_folder
from cola_learn.label.label_options import LabelOptions
from cola_learn.label.labeller import Effort, Labeller, Workers
from cola_learn.label.manifest import Manifest
from cola_learn.label.plan import Job, Plan
from cola_learn.label.show import check_lengths, show_prompt
from cola_learn.label.store import LabelStore
from cola_learn.label.summary import Tally
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question
from cola_learn.tracking import Tracker

_SECONDS_BETWEEN_LOGS = 10.0


def run_label(options: LabelOptions) -> LabelStore | None:
    """Label a task as the options say, resuming what is there; prints a summary and the next command. With
    ``show_prompt`` it only prints a prompt.

    Raises:
        UserError: for options that cannot be met.
    """
    questions = load_task(options.task, options.split, options.limit, options.plan.seed, layout=options.layout)
    scoring = options.scoring.of(questions)
    encoder = PromptEncoder(load_tokenizer(options.backbone), scoring.bos)
    show_prompt(questions[0], scoring, encoder, whole=options.show_prompt)
    if options.show_prompt:
        return None
    check_lengths(questions, scoring, encoder, options.backbone)
    writable_folder(options.output)
    job = Job(options.backbone, scoring, options.plan, options.resources)
    with closing(start_workers(job)) as workers:
        manifest = Manifest.of(workers.identity, job, options.task, questions[0], options.layout)
        store = LabelStore.create(options.output, manifest)
        finished = store.keys() >= {question.key for question in questions}
        tracking = "disabled" if finished else options.tracking
        settings = settings_of(options)
        with Tracker("label", tracking, options.output, settings, options.wandb, step="questions") as tracker:
            tally = fill_store(store, workers, questions, job.plan, "label", tracker)
            _log_summary(tracker, tally, store)
    tally.print()
    console.print(f"labels      {options.output}", soft_wrap=True)
    good = sum(tally.depths.values())
    if good < 2:
        console.print(
            f"{good} of {tally.questions} questions have a good chain; training needs 2: label more, or search longer"
        )
        next_command(["python -m cola_learn.label inspect", options.output])
        return store
    train = options.output.parent / "train" if options.output.name == "labels" else f"{options.output}-train"
    next_command(
        ["python -m cola_learn.label inspect", options.output],
        ["python -m cola_learn.train", "--labels", options.output, "--output", train],
    )
    return store


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
