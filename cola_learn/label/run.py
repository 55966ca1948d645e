"""The label stage: questions in, label store out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cola_learn.backbone import Backbone, Executor, load_backbone
from cola_learn.backbone.load import Dtype
from cola_learn.chains import SearchSpace
from cola_learn.cli import UserError, console, next_command, progress_bar, writable_folder
from cola_learn.label.driver import Job, search_jobs
from cola_learn.label.mcts import SearchSettings
from cola_learn.label.records import Label
from cola_learn.label.store import LabelStore, Manifest
from cola_learn.label.verify import Verifier, Verify
from cola_learn.tasks import Metric, Question, Scorer, Template, load_task
from cola_learn.tracking import Mode, Tracker


@dataclass(frozen=True)
class LabelOptions:
    """Options of python -m cola_learn.label.

    Attributes:
        task: registry name (arc_easy, commonsense_qa, mmlu, ...) or a JSONL/CSV/Parquet file.
        split: split of a named task; the embedded benchmarks have no train split, so label test.
        limit: label at most this many questions, drawn with the seed; default all.
        output: folder of the label store; an unfinished one there is resumed.
        backbone: embedded, a Hugging Face id such as Qwen/Qwen3-0.6B, or a folder.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        template: score the text of every option (cloze) or the letters of listed options (letter).
        metric: sum of log-probabilities (acc) or that per character (acc_norm).
        search: budget and selection rule of each tree.
        space: which edits a chain may have.
        trees: samples searched at the same time; more fill a larger chip. The labels do not depend on it.
        cache_gib: memory for hidden states that chains share, in GiB; by default a quarter of the host's free memory
            or half of the GPU's. The labels do not depend on it.
        verify: run good chains again, alone and with nothing kept, before a label is stored: auto runs all of them
            where results depend on what shares a batch (GPUs) and one a question elsewhere; good always all; off none.
        seed: of the draw of questions and of the trees.
        tracking: W&B offline, online or disabled; auto is online with an API key, else offline.
    """

    task: str = "arc_easy"
    split: str = "test"
    limit: int | None = None
    output: Path = Path("runs/labels")
    backbone: str = "embedded"
    device: str = "auto"
    dtype: Dtype = "auto"
    template: Template = "cloze"
    metric: Metric = "acc"
    search: SearchSettings = field(default_factory=SearchSettings)
    space: SearchSpace = field(default_factory=SearchSpace)
    trees: int = 32
    cache_gib: float | None = None
    verify: Verify = "auto"
    seed: int = 0
    tracking: Mode = "auto"


def run_label(options: LabelOptions) -> LabelStore:
    """Label a task as the options say, resuming what is there; prints a summary and the next command.

    Raises:
        UserError: for options that cannot be met.
    """
    questions = load_task(options.task, options.split, options.limit, options.seed)
    writable_folder(options.output)
    backbone = load_backbone(options.backbone, options.device, options.dtype)
    manifest = make_manifest(backbone, options, questions[0])
    store = LabelStore.create(options.output, manifest)
    finished = store.keys() >= {question.key for question in questions}
    tracking = "disabled" if finished else options.tracking
    with Tracker("label", tracking, options.output, asdict(options)) as tracker:
        scorer = make_scorer(backbone, options)
        jobs = [Job.for_gold(question) for question in questions]
        labels = fill_store(store, scorer, jobs, options, "label", tracker)
        summary = summarize(labels)
        tracker.summary(summary)
        tracker.histogram("depth/shortest_good", [label.good[0].chain.depth for label in labels if label.good])
        tracker.table(
            "examples",
            ("id", "base_reward", "shortest_good_chain", "depth", "margin", "good_chains", "tried"),
            [_example(label) for label in labels[:50]],
        )
        tracker.artifact("labels", "label-store", [store.folder / "manifest.json", *store.folder.glob("*.parquet")])
    print_summary(summary)
    console.print(f"labels      {options.output}", soft_wrap=True)
    next_command(f"python -m cola_learn.train --config configs/train/demo.yaml --labels {options.output}")
    return store


def make_manifest(backbone: Backbone, options: LabelOptions, question: Question, target: str = "gold") -> Manifest:
    """The manifest of a store that these options would make."""
    return Manifest(
        backbone=options.backbone,
        fingerprint=backbone.fingerprint,
        num_layers=backbone.num_layers,
        dtype=backbone.dtype_name,
        task=options.task,
        split=question.split,
        template=options.template,
        metric=options.metric,
        space=asdict(options.space),
        search=asdict(options.search),
        seed=options.seed,
        target=target,
    )


def make_scorer(backbone: Backbone, options: LabelOptions) -> Scorer:
    if options.trees < 1:
        raise UserError(f"--trees {options.trees} searches nothing; give at least 1")
    if options.cache_gib is not None and options.cache_gib < 0:
        raise UserError(f"--cache_gib {options.cache_gib} is negative; give 0 to keep nothing, or more")
    cache_bytes = None if options.cache_gib is None else int(options.cache_gib * 2**30)
    return Scorer(Executor(backbone, cache_bytes), options.metric)


def fill_store(
    store: LabelStore,
    scorer: Scorer,
    jobs: Sequence[Job],
    options: LabelOptions,
    title: str,
    tracker: Tracker | None = None,
) -> list[Label]:
    """Search the jobs that the store lacks, writing as they finish; returns the labels in job order."""
    with store.writing():
        labels = {label.key: label for label in store.read()}
        missing = [job for job in jobs if job.question.key not in labels]
        verifier = Verifier(scorer, options.template, options.verify)
        if len(missing) < len(jobs):
            console.print(f"{title}: {len(jobs) - len(missing)} of {len(jobs)} questions are done already")
        with progress_bar() as bar:
            each = options.search.simulations
            task = bar.add_task(title, total=len(missing) * each, unit="chains", note="", visible=bool(missing))
            finished = search_jobs(
                scorer,
                missing,
                options.space,
                options.search,
                options.template,
                options.seed,
                options.trees,
                lambda simulations: bar.advance(task, simulations),
            )
            for pairs in finished:
                verified = [verifier(job, label) for job, label in pairs]
                store.append(verified)
                labels.update((label.key, label) for label in verified)
                summary = summarize([labels[job.question.key] for job in jobs if job.question.key in labels])
                bar.update(
                    task,
                    note=f"base {summary['base_accuracy']:.0%} shorter {summary['shortened']:.0%} "
                    f"corrected {summary['corrected']:.0%}",
                )
                if tracker:
                    rate = bar.tasks[0].finished_speed or bar.tasks[0].speed or 0.0
                    executor = {f"executor/{key}": value for key, value in scorer.executor.shares().items()}
                    found = {f"found/{key}": value for key, value in summary.items()}
                    tracker.log(found | executor | {"chains_per_second": rate})
        store.compact(job.question.key for job in jobs)
    if missing:
        print_effort(scorer.executor, verifier)
    return [labels[job.question.key] for job in jobs]


def summarize(labels: Sequence[Label]) -> dict[str, float]:
    """What was found: shares of right (shortened) and wrong (corrected) answers, and mean depths."""
    right = [label for label in labels if label.base.reward >= 1]
    wrong = [label for label in labels if label.base.reward < 1]
    found = [label.good[0].chain.depth for label in labels if label.good]
    return {
        "questions": len(labels),
        "base_accuracy": len(right) / max(1, len(labels)),
        "shortened": sum(label.shortened for label in right) / max(1, len(right)),
        "corrected": sum(label.corrected for label in wrong) / max(1, len(wrong)),
        "mean_depth": sum(found) / max(1, len(found)),
        "chains_tried": sum(len(label.trials) for label in labels),
    }


def print_summary(summary: dict[str, float]) -> None:
    console.print(
        f"{summary['questions']} questions, {summary['chains_tried']} chains tried; base accuracy "
        f"{summary['base_accuracy']:.1%}\n"
        f"right answers with a shorter right chain: {summary['shortened']:.1%}\n"
        f"wrong answers with some right chain:      {summary['corrected']:.1%} "
        "[dim](much of this is luck of many tries; evaluate shows how much)[/dim]\n"
        f"mean depth of the shallowest right chain: {summary['mean_depth']:.1f}"
    )


def print_effort(executor: Executor, verifier: Verifier) -> None:
    """What the search cost, and what came of running chains again alone."""
    shares = executor.shares()
    console.print(
        f"[dim]layers that chains shared and ran once: {shares['layers_saved']:.0%}; beginnings found in the cache: "
        f"{shares['cache_hit_rate']:.0%} ({executor.trie.peak_bytes / 2**30:.2f} of "
        f"{executor.trie.budget_bytes / 2**30:.1f} GiB used); padding: {shares['padding']:.1%}\n"
        f"good chains run again alone: {verifier.checked}, of which wrong then: {verifier.flipped}[/dim]"
    )


def _example(label: Label) -> tuple[object, ...]:
    best = label.good[0] if label.good else label.base
    return (
        label.id,
        label.base.reward,
        str(best.chain),
        best.chain.depth,
        best.margin,
        len(label.good),
        len(label.trials),
    )
