"""What each chain of a menu gains and loses beside the base chain: over all questions, and by task."""

import numpy
from rich.table import Table

from cola_learn.label.score_matrix import ScoreMatrix
from cola_learn.stats import Interval, paired_difference, points


def over_all(matrix: ScoreMatrix) -> Table:
    """A row for each chain, deepest first and of one depth the best first: the change in accuracy and the gain in the
    log-probability of the right option, paired by question, with 95% intervals."""
    table = Table(title="each chain beside the base chain (95% intervals)", box=None, title_justify="left")
    for name in ("chain", "depth", "accuracy", "change, points", "gain in log-probability, nats"):
        table.add_column(name, justify="left" if name == "chain" else "right", no_wrap=name == "chain")
    for place in _order(matrix):
        accuracy = f"{matrix.rewards[:, place].mean():.1%}"
        row = [str(matrix.chains[place]), str(matrix.chains[place].depth), accuracy]
        if place:
            change = paired_difference(matrix.rewards[:, place], matrix.rewards[:, 0])
            row += [points(change), _nats(paired_difference(matrix.soft[:, place], matrix.soft[:, 0]))]
        table.add_row(*row)
    return table


def by_task(matrix: ScoreMatrix) -> Table:
    """The gain of each chain in the log-probability of the right option, in the mean over each task's questions."""
    tasks = numpy.unique(matrix.tasks)
    table = Table(title="gain in log-probability by task, nats", box=None, title_justify="left")
    table.add_column("chain", no_wrap=True)
    for task in tasks:
        table.add_column(str(task), justify="right")
    for place in _order(matrix):
        gains = matrix.soft[:, place] - matrix.soft[:, 0]
        if place:
            table.add_row(str(matrix.chains[place]), *(f"{gains[matrix.tasks == task].mean():+.3f}" for task in tasks))
    return table


def _order(matrix: ScoreMatrix) -> list[int]:
    means = matrix.soft.mean(0)
    return sorted(range(len(matrix.chains)), key=lambda place: (-matrix.chains[place].depth, -means[place]))


def _nats(interval: Interval) -> str:
    return f"{interval.mean:+.3f} ({interval.low:+.3f}, {interval.high:+.3f})"
