"""Overhead of workers: one process, several processes and a Ray cluster, side by side.

Each layout labels the same questions; loading the backbones is not counted. Run it with nothing else on the machine::

    python -m benchmarks.workers --questions 64 --workers 2
"""

import time
from contextlib import closing
from dataclasses import dataclass

from rich.console import Console

from cola_learn.command import Command
from cola_learn.console import console
from cola_learn.label.plan import Job, Plan, Resources
from cola_learn.label.records import Label
from cola_learn.label.run import start_workers
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.methods import MCTS
from cola_learn.tasks.load_task import load_task


@dataclass(frozen=True)
class Options:
    """Options of python -m benchmarks.workers.

    Attributes:
        questions: ARC-Easy test questions that each layout labels.
        simulations: of each search.
        workers: processes, and Ray actors.
        repeats: how often; the layouts take turns, and the best time of each counts.
    """

    questions: int = 64
    simulations: int = 32
    workers: int = 2
    repeats: int = 2


def run(options: Options) -> None:
    """Print questions a second of each layout, its ratio to one process, and whether the labels are the same."""
    layouts = {
        "one process": Resources(),
        f"{options.workers} processes": Resources(workers=options.workers),
        f"{options.workers} Ray actors": Resources(workers=options.workers, executor="ray"),
    }
    scoring, plan = Scoring(metric="acc", reward="choices"), Plan(MCTS(options.simulations))
    questions = load_task("arc_easy", "test", options.questions, 0)
    seconds: dict[str, float] = {}
    labels: dict[str, dict[str, Label]] = {}
    for _ in range(options.repeats):
        for name, layout in layouts.items():
            console.print(name, style="dim")
            with closing(start_workers(Job("embedded", scoring, plan, layout))) as workers:
                begin = time.perf_counter()
                found = {label.key: label for part in workers.run(questions, lambda _: None) for label in part}
                taken = time.perf_counter() - begin
            seconds[name] = min(taken, seconds.get(name, taken))
            labels[name] = found
    for name in layouts:
        rate, ratio = len(questions) / seconds[name], seconds["one process"] / seconds[name]
        same = "the same labels" if labels[name] == labels["one process"] else "other labels"
        Console().print(f"{name:<14} {rate:.2f} questions/s, {ratio:.2f} of one process, {same}")


if __name__ == "__main__":
    Command(Options, run, "Labelling by one process, several, and a Ray cluster.")("benchmarks.workers")
