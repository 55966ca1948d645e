"""Results of the policies of a menu, as a table in the terminal and in Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy
from rich.table import Table

from cola_learn.console import PlainConsole, console
from cola_learn.evaluate.reliability import Reliability
from cola_learn.intervals import Interval, points
from cola_learn.label.score_matrix import ScoreMatrix


@dataclass(frozen=True)
class PolicyRow:
    """One policy at one depth.

    Attributes:
        policy: name.
        target: the mean depth it was set to, as a share of the base chain's; None for those that have no price.
        accuracy, depth: on the held-out questions; depth in layers run, shared ones counted once.
        to_base, to_static: paired differences in accuracy to the base chain and to the static front at the same depth,
            with 95% intervals; None below the front.
        p_base, p_static: of McNemar's exact test, or of a paired t test where several controllers are averaged.
        static: the static chains that the front is made of at this depth, with their chances.
        by_group: difference to base of each task, and of the other groups of ``breakdown.groupings``.
        collapse: diagnostics of the choice; empty for policies that run several chains.
        to_shuffled, p_shuffled: of a controller, difference to its choices for shuffled prompts, in the mean over all
            ways to shuffle them: what of its result depends on the input.
        to_shuffled_in_task, p_shuffled_in_task: the same with prompts shuffled among those of their task: what it reads
            beside the task.
        price: of depth that a controller was set to, as ``--price`` takes it.
    """

    policy: str
    target: float | None
    accuracy: float
    depth: float
    to_base: Interval
    p_base: float
    to_static: Interval | None
    p_static: float | None
    static: str
    by_group: dict[str, dict[str, float]]
    collapse: dict[str, float]
    to_shuffled: Interval | None = None
    p_shuffled: float | None = None
    to_shuffled_in_task: Interval | None = None
    p_shuffled_in_task: float | None = None
    price: float | None = None


@dataclass(frozen=True)
class MenuReport:
    """Results of one evaluation of a menu.

    Attributes:
        n: number of held-out questions.
        tasks: theirs.
        controllers: digest of the weights of each controller, by its name in the rows.
        rows: the policies at each depth.
        part: of the held-out questions: all, open or blind.
        reliability: of the gains that controllers predict.
    """

    n: int
    tasks: tuple[str, ...]
    controllers: dict[str, str]
    rows: tuple[PolicyRow, ...]
    part: str = "all"
    reliability: tuple[Reliability, ...] = ()


def _cells(row: PolicyRow) -> list[str]:
    return [
        row.policy,
        _share(row.target),
        "" if row.price is None else f"{row.price:.3g}",
        f"{row.depth:.1f}",
        f"{row.accuracy:.1%}",
        points(row.to_base),
        f"{row.p_base:.3f}",
        points(row.to_static),
        "" if row.p_static is None else f"{row.p_static:.3f}",
        points(row.to_shuffled),
        "" if row.p_shuffled is None else f"{row.p_shuffled:.3f}",
        points(row.to_shuffled_in_task),
        "" if row.p_shuffled_in_task is None else f"{row.p_shuffled_in_task:.3f}",
        f"{row.collapse['base_share']:.0%}" if row.collapse else "",
    ]


_HEADINGS = (
    *("policy", "set to", "price", "layers", "accuracy", "Δ base (95% CI)", "p", "Δ static front (95% CI)", "p"),
    *("Δ shuffled (95% CI)", "p", "Δ in task (95% CI)", "p", "base share"),
)


def as_markdown(report: MenuReport, pool: ScoreMatrix, held: ScoreMatrix) -> str:
    """The table, differences to base by group, areas and reliability."""
    rows = report.rows
    part = "" if report.part == "all" else f" ({report.part} part)"
    lines = [f"{len(held)} held-out questions{part}, {len(pool)} training questions.", ""]
    lines += _table(_HEADINGS, map(_cells, rows))
    counts = {task: int((held.tasks == task).sum()) for task in rows[0].by_group["task"]}
    for name, groups in rows[0].by_group.items():
        lines += ["", f"Difference to base in points, by {name}:", ""]
        shown = [f"{group} ({counts[group]})" if name == "task" else group for group in groups]
        lines += _table(
            ("policy", "set to", *shown),
            (
                [row.policy, _share(row.target), *(f"{100 * value:+.1f}" for value in row.by_group[name].values())]
                for row in rows[1:]
            ),
        )
    lines += ["", "Mean height of the curve of each policy over the static front, in points:", ""]
    lines += _table(
        ("policy", "layers", "height"),
        ([name, f"{low:.1f} to {high:.1f}", f"{100 * height:+.1f}"] for name, low, high, height in heights(rows)),
    )
    if report.reliability:
        lines += ["", "Predicted gains of all chains but base, in nats of the right option's log-probability:", ""]
        lines += _table(
            ("controller", "expected calibration error", "correlation with realised gains"),
            ([one.controller, f"{one.error:.4f}", f"{one.correlation:.3f}"] for one in report.reliability),
        )
    return "\n".join(lines) + "\n"


def heights(rows: Sequence[PolicyRow]) -> list[tuple[str, float, float, float]]:
    """Of every policy with several depths: its name, least and largest depth, and the mean height of its curve over the
    static front between them, by the trapezoidal rule."""
    found = []
    for name in dict.fromkeys(row.policy for row in rows):
        own = sorted((row.depth, row.to_static.mean) for row in rows if row.policy == name and row.to_static)
        if len(own) > 1 and own[-1][0] > own[0][0]:
            depths, over = zip(*own, strict=True)
            height = float(numpy.trapezoid(over, depths)) / (depths[-1] - depths[0])
            found.append((name, depths[0], depths[-1], height))
    return found


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def _share(target: float | None) -> str:
    return "" if target is None else f"{target:.0%}"


def print_rows(rows: Sequence[PolicyRow], pool: ScoreMatrix, held: ScoreMatrix) -> None:
    """The table, on standard output: a star where p < 0.05."""
    headings = (
        *("policy", "set to", "price", "layers", "accuracy"),
        *("Δ base", "Δ static front", "Δ shuffled", "Δ in task"),
    )
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for row in rows:
        differences = (
            (row.to_base, row.p_base),
            (row.to_static, row.p_static),
            (row.to_shuffled, row.p_shuffled),
            (row.to_shuffled_in_task, row.p_shuffled_in_task),
        )
        starred = [points(one) + ("*" if p is not None and p < 0.05 else "") for one, p in differences]
        grid.add_row(*_cells(row)[:5], *starred, style="dim" if "oracle" in row.policy else None)
    PlainConsole(width=160).print(grid)
    console.print(
        "Δ: difference in accuracy, points (95% CI), * p < 0.05; in task: to choices shuffled within tasks\n"
        f"{len(held)} held-out questions; chosen and fitted on {len(pool)} others"
    )
