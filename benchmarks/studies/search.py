"""Search methods side by side: what each finds within a number of simulations, and what luck alone finds.

All methods search the same questions and share every score (a chain's scores do not depend on who asks for it), so
only wall times need runs of their own (``--seconds N`` questions). Questions that are finished are kept in the output
folder; the same command with more questions goes on from there. What docs/search.md shows is kept in data/search::

    python -m benchmarks.studies.search --questions 200 --workers 2 --output data/search
    python -m benchmarks.studies.search --config configs/benchmarks/search_50.yaml    # fewer methods, less budget
"""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.studies.journal import Journal
from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain, SearchSpace
from cola_learn.command import Command
from cola_learn.console import progress_bar
from cola_learn.errors import UserError
from cola_learn.files import writable_folder, write_text
from cola_learn.label.driver import Hunt, label_questions
from cola_learn.label.manifest import Searched
from cola_learn.label.plan import Plan
from cola_learn.label.processes import end_with_parent
from cola_learn.label.records import Label
from cola_learn.label.single_edits import gains_as_prior
from cola_learn.label.store import LabelStore
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.rewards.reward import wrong_option
from cola_learn.rewards.scores import Scores
from cola_learn.search.method import Prior
from cola_learn.search.methods import MCTS, Beam, RandomEdits, Scan, SearchMethod
from cola_learn.stats import paired_difference
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question, as_sample

Array = NDArray[numpy.float64]
BUDGETS = (25, 50, 100, 200)
LABELLED = "mcts disjoint"  # the default search, which label stores hold too
TASKS = ("arc_easy", "arc_challenge")
TOGETHER = 40  # searches of a worker whose chains run together
DISJOINT, NESTED = SearchSpace(), SearchSpace(edits="nested")
METHODS: dict[str, tuple[SearchSpace, type[SearchMethod], dict[str, float]]] = {
    LABELLED: (DISJOINT, MCTS, {}),
    "mcts disjoint, lambda 1": (DISJOINT, MCTS, {"depth_penalty": 1.0}),
    "mcts disjoint, prior": (DISJOINT, MCTS, {}),
    "mcts nested": (NESTED, MCTS, {}),
    "mcts skip-only": (SearchSpace(operations="skip"), MCTS, {}),
    "mcts repeat-only": (SearchSpace(operations="repeat"), MCTS, {}),
    "beam": (DISJOINT, Beam, {}),
    "greedy": (DISJOINT, Beam, {"width": 1}),
    "random": (DISJOINT, RandomEdits, {}),
    "scan": (DISJOINT, Scan, {}),
}


@dataclass(frozen=True)
class Options:
    """Options of python -m benchmarks.studies.search.

    Attributes:
        questions: of each task, drawn with the seed.
        output: folder of the results; finished questions there are kept.
        methods: to compare.
        simulations: of each search at most.
        labels: folder of label stores, TASK-test, made by the default search with these settings; its part is then read
            from there and not run again.
        workers: processes that search, an equal share of the cores each; a process a core is fastest.
        prior_questions: validation questions whose scan of single edits is the prior.
        seconds: questions on which each method's own wall time is taken; 0 leaves it out.
        seed: of the draw and the searches.
        dtype: of the backbone; a results folder has one.
    """

    questions: int = 200
    output: Path = Path("runs/search")
    methods: list[str] = field(default_factory=lambda: [*METHODS])
    simulations: int = max(BUDGETS)
    labels: Path | None = None
    workers: int = 1
    prior_questions: int = 16
    seconds: int = 0
    seed: int = 0
    dtype: Dtype = "bfloat16"

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"methods has {method!r}; there are {', '.join(map(repr, METHODS))}")
        if not self.to_run:
            raise ValueError(f"methods is {self.methods}, all read from labels; name another to compare")
        if self.simulations < min(BUDGETS):
            raise ValueError(f"simulations is {self.simulations}; give at least {min(BUDGETS)}, the least budget shown")

    @property
    def to_run(self) -> list[str]:
        """The methods that no labels stand for."""
        return [method for method in self.methods if not (self.labels and method == LABELLED)]


def run(options: Options) -> None:
    """Search what is missing, then print and draw what all questions give."""
    folder = writable_folder(options.output)
    drawn = [load_task(task, "test", options.questions, options.seed) for task in TASKS]
    questions = [question for pair in zip(*drawn, strict=False) for question in pair]
    labelled = read_labels(options, questions)
    names = ("seed", "prior_questions", "dtype", "simulations")
    settings = {**{name: getattr(options, name) for name in names}, "methods": options.to_run}
    journal = Journal(folder / "questions.jsonl", settings)
    done = {part["key"] for part in journal.parts}
    missing = [question for question in questions if question.key not in done]
    if missing:
        prior = scan_prior(folder, options)
        with progress_bar() as bar:
            task = bar.add_task("questions", total=len(missing), unit="questions", note="")
            for row in search_all(missing, prior, options):
                journal.add(row)
                bar.advance(task)
    if options.seconds:
        times = seconds_alone(questions[: options.seconds], scan_prior(folder, options), options)
        write_text(folder / "seconds.json", json.dumps(times, indent=2) + "\n")
    finished = {row["key"]: row for row in journal.parts}
    rows = [finished[question.key] for question in questions]
    rows = [{**row, "methods": row["methods"] | labelled.get(row["key"], {})} for row in rows]
    for task_name in (*TASKS, "both"):
        table(task_name, [row for row in rows if task_name in ("both", row["task"])], options)
    draw(rows, folder / "search.svg", options)
    Console().print(f"plot: {folder / 'search.svg'}")


def read_labels(options: Options, questions: Sequence[Question]) -> dict[str, dict[str, Any]]:
    """What the default search found on each question, as rows of the journal have it, from label stores.

    Raises:
        UserError: if a store was made otherwise, or lacks a question.
    """
    if not options.labels:
        return {}
    space, _, _ = METHODS[LABELLED]
    wanted = {
        "plan": Searched.of(Plan(MCTS(options.simulations), space, seed=options.seed), 30),
        "model.dtype": options.dtype,
    }
    found: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        store = LabelStore.open(options.labels / f"{task}-test")
        for name, value in wanted.items():
            if (given := attrgetter(name)(store.manifest)) != value:
                raise UserError(f"--labels {store.folder} was made with {name} {given}; here it is {value}")
        found |= {label.key: {LABELLED: _labelled(label)} for label in store}
    missing = [question.key for question in questions if question.key not in found]
    if missing:
        raise UserError(f"--labels {options.labels} has no label of {missing[0]}; label all that is compared")
    return found


def _labelled(label: Label) -> dict[str, list[tuple[int, int]]]:
    gold = _shallower((trial.simulation, trial.chain.depth) for trial in label.trials if trial.reward >= 1)
    if label.luck is None:
        return {"gold": gold}
    return {"gold": gold, "luck": [(simulation, chain.depth) for chain, simulation in label.luck.found]}


def load_scorer(dtype: Dtype) -> OptionScorer:
    """The embedded model."""
    return OptionScorer(Executor(load_backbone(dtype=dtype)))


def scan_prior(folder: Path, options: Options) -> Prior:
    """Chances of edits from a scan of other questions: both tasks' validation splits."""
    file = folder / "prior.json"
    if not file.exists():
        half = options.prior_questions // len(TASKS)
        questions = [q for task in TASKS for q in load_task(task, "validation", half, options.seed)]
        plan = Plan(Scan(), SearchSpace(max_extra=1), luck=False, neighbours=0)
        with progress_bar() as bar:
            task = bar.add_task("prior", total=len(questions), unit="questions", note="")
            labels = []
            for finished in label_questions(load_scorer(options.dtype), questions, plan, trees=8):
                labels += [label for _, label in finished]
                bar.advance(task, len(finished))
        prior = gains_as_prior(labels, MCTS().prior_temperature)
        write_text(file, json.dumps([[str(DISJOINT.apply(Chain.base(30), e)), w] for e, w in prior.items()]))
    return {Chain.parse(text, 30).edits()[0]: weight for text, weight in json.loads(file.read_text())}


def search_all(questions: Sequence[Question], prior: Prior, options: Options) -> Iterator[dict[str, Any]]:
    """What every method finds on each question, a few questions at a time, as workers finish them."""
    size = max(1, TOGETHER // len(options.to_run))
    groups = [questions[start : start + size] for start in range(0, len(questions), size)]
    with multiprocessing.get_context("spawn").Pool(options.workers, _start, (options.workers, options.dtype)) as pool:
        for rows in pool.imap_unordered(partial(search_group, prior=prior, options=options), groups):
            yield from rows


def _start(workers: int, dtype: Dtype) -> None:
    global _scorer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    end_with_parent()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // workers))
    _scorer = load_scorer(dtype)


_scorer: OptionScorer  # of a worker process


def search_group(group: Sequence[Question], prior: Prior, options: Options) -> list[dict[str, Any]]:
    """Every method on the questions, for gold and for luck, all sharing their scores."""
    scorer = _scorer
    methods = options.to_run
    base = Chain.base(scorer.num_layers)
    for question in group:
        scorer.open(as_sample(question))
    scores: dict[str, dict[Chain, Scores]] = {
        q.key: {base: found} for q, found in zip(group, scorer.score([(q.key, base) for q in group]), strict=True)
    }
    hunts = {}
    for question in group:
        luck = wrong_option(question, scores[question.key][base], options.seed)
        for name in methods:
            hunts[question.key, name, "gold"] = _hunt(name, scorer, question, question.gold, prior, options)
            if luck is not None:
                hunts[question.key, name, "luck"] = _hunt(name, scorer, question, luck, prior, options)
    while True:
        wanted = [(key, hunt.wants(scores[key])) for (key, _, _), hunt in hunts.items()]
        asked = list(dict.fromkeys((key, chain) for key, chain in wanted if chain is not None))
        if not asked:
            break
        for (key, chain), score in zip(asked, scorer.score(asked), strict=True):
            scores[key][chain] = score
    rows = []
    for question in group:
        scorer.close(question.key)
        found = scores[question.key]
        rows.append(
            {
                "key": question.key,
                "task": question.task,
                "base": found[base].reward(question.gold),
                "scored": len(found),
                "methods": {
                    name: {
                        target: _improvements(hunts[question.key, name, target], found)
                        for target in ("gold", "luck")
                        if (question.key, name, target) in hunts
                    }
                    for name in methods
                },
            }
        )
    return rows


def _hunt(name: str, scorer: OptionScorer, question: Question, option: int, prior: Prior, options: Options) -> Hunt:
    space, method = _method(name, options.simulations)
    guide = prior if name.endswith("prior") else None
    return Hunt(method.start(scorer.num_layers, space, f"{options.seed}/{question.key}", guide), option, None)


def _method(name: str, simulations: int) -> tuple[SearchSpace, SearchMethod]:
    space, kind, settings = METHODS[name]
    return space, kind(**settings, **({} if kind is Scan else {"simulations": simulations}))


def _improvements(hunt: Hunt, scores: Mapping[Chain, Scores]) -> list[tuple[int, int]]:
    """(simulation, depth) of each chain that reached the option at less depth than those before it."""
    good = (chain for chain in hunt.tried if scores[chain].reward(hunt.option) >= 1)
    return _shallower((hunt.tried[chain], chain.depth) for chain in good)


def _shallower(good: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for simulation, depth in good:
        if not found or depth < found[-1][1]:
            found.append((simulation, depth))
    return found


def seconds_alone(questions: Sequence[Question], prior: Prior, options: Options) -> dict[str, float]:
    """Seconds a question of each method alone, without luck control."""
    scorer, times = load_scorer(options.dtype), {}
    for name in options.methods:
        space, method = _method(name, options.simulations)
        plan = Plan(method, space, seed=options.seed, luck=False, neighbours=0)
        begin = time.perf_counter()
        guide = prior if name.endswith("prior") else None
        for _ in label_questions(scorer, questions, plan, prior=guide):
            pass
        times[name] = (time.perf_counter() - begin) / len(questions)
    return times


@dataclass(frozen=True)
class Found:
    """What a method found within a budget, question by question.

    Attributes:
        saved: share of the layers that the shallowest right chain saves, of each right answer.
        saved_by_luck: the same for the shallowest chain that reaches the luck control's wrong option; 0 if none does.
        corrected: whether a chain reaches the gold option, of each wrong answer.
        lucky: whether a chain reaches the luck control's.
    """

    saved: Array
    saved_by_luck: Array
    corrected: Array
    lucky: Array


def found_within(rows: Sequence[Mapping[str, Any]], name: str, budget: int, layers: int = 30) -> Found:
    """A method's results on the rows of questions, had it stopped after ``budget`` simulations."""

    def depth(row: Mapping[str, Any], target: str) -> int | None:
        return min((d for s, d in row["methods"][name].get(target, ()) if s <= budget), default=None)

    def saved(target: str) -> Array:
        depths = [depth(row, target) or layers for row in rows if row["base"] >= 1]
        return numpy.maximum(0, layers - numpy.array(depths)) / layers

    def reached(target: str) -> Array:
        return numpy.array([depth(row, target) is not None for row in rows if row["base"] < 1], dtype=float)

    return Found(saved("gold"), saved("luck"), reached("gold"), reached("luck"))


def table(title: str, rows: Sequence[Mapping[str, Any]], options: Options) -> None:
    """Print what every method found within every budget, and how that differs between methods at the default one."""
    right = sum(row["base"] >= 1 for row in rows)
    if right in (0, len(rows)):
        return
    printed = Table(title=f"{title}: {right} right, {len(rows) - right} wrong answers", box=None, title_justify="left")
    columns = ("saved", "by luck", "beyond luck (95%)", "corrected", "by luck", "beyond luck (95%)")
    for column in ("method", "budget", "shortened", *columns):
        printed.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for name in options.methods:
        for budget in (budget for budget in BUDGETS if budget <= options.simulations):
            found = found_within(rows, name, budget)
            printed.add_row(
                name if budget == BUDGETS[0] else "",
                str(budget),
                f"{(found.saved > 0).mean():.0%}",
                f"{found.saved.mean():.1%}",
                f"{found.saved_by_luck.mean():.1%}",
                _difference(found.saved, found.saved_by_luck),
                f"{found.corrected.mean():.0%}",
                f"{found.lucky.mean():.0%}",
                _difference(found.corrected, found.lucky),
            )
    budget = min(MCTS().simulations, options.simulations)
    first, *others = options.methods
    differences = Table(title=f"{title}: difference to {first}, budget {budget} (95%)", box=None, title_justify="left")
    for column in ("method", "saved", "beyond luck", "corrected", "beyond luck"):
        differences.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    theirs = found_within(rows, first, budget)
    for name in others:
        found = found_within(rows, name, budget)
        differences.add_row(
            name,
            _difference(found.saved, theirs.saved),
            _difference(found.saved - found.saved_by_luck, theirs.saved - theirs.saved_by_luck),
            _difference(found.corrected, theirs.corrected),
            _difference(found.corrected - found.lucky, theirs.corrected - theirs.lucky),
        )
    Console(width=130).print(printed, differences if others else "")


def _difference(values: Array, others: Array) -> str:
    """In points, with its interval."""
    difference = paired_difference(list(values), list(others))
    return f"{100 * difference.mean:+.1f} ({100 * difference.low:+.1f}, {100 * difference.high:+.1f})"


def draw(rows: Sequence[Mapping[str, Any]], file: Path, options: Options) -> None:
    """Curves of what is found against simulations."""
    from cola_learn.plots import as_svg, themed

    panels = {
        "saved": "layers saved on right answers",
        "saved_by_luck": "the same by luck",
        "corrected": "wrong answers corrected",
        "lucky": "the same by luck",
    }
    budgets = (1, 2, 4, 8, 12, 18, *range(25, options.simulations + 1, 25))
    with themed(12.5, 4.0) as figure:
        for place, (field, title) in enumerate(panels.items()):
            axes = figure.add_subplot(1, len(panels), place + 1)
            for number, name in enumerate(options.methods):
                values = [100 * getattr(found_within(rows, name, budget), field).mean() for budget in budgets]
                style = "-" if name.startswith("mcts") else "--"
                axes.plot(budgets, values, style, label=name, color=f"C{number}", linewidth=1.6)
            axes.set_title(title)
            axes.set_xlabel("simulations")
            axes.set_ylabel("%")
            axes.set_ylim(0, 100)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
        write_text(file, as_svg(figure))


if __name__ == "__main__":
    Command(Options, run, "Compare search methods on ARC-Easy and ARC-Challenge questions.")(
        "benchmarks.studies.search"
    )
