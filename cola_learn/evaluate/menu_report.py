"""Results of the policies of a menu, as a table in the terminal and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from cola_learn.console import PlainConsole, console
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
        by_task: difference to base of each task.
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
    by_task: dict[str, float]
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
    """

    n: int
    tasks: tuple[str, ...]
    controllers: dict[str, str]
    rows: tuple[PolicyRow, ...]


def _cells(row: PolicyRow) -> list[str]:
    return [
        row.policy,
        "" if row.target is None else f"{row.target:.0%}",
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


def as_markdown(rows: Sequence[PolicyRow], pool: ScoreMatrix, held: ScoreMatrix) -> str:
    """The table, and differences to base by task."""
    lines = [f"{len(held)} held-out questions, {len(pool)} training questions.", ""]
    lines += [f"| {' | '.join(_HEADINGS)} |", "|---" * len(_HEADINGS) + "|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    tasks = sorted(rows[0].by_task)
    counts = {task: int((held.tasks == task).sum()) for task in tasks}
    lines += ["", "Difference to base in points, by task (questions):", ""]
    lines += [f"| policy | set to | {' | '.join(f'{task} ({counts[task]})' for task in tasks)} |"]
    lines += ["|---" * (2 + len(tasks)) + "|"]
    for row in rows[1:]:
        cells = [f"{100 * row.by_task[task]:+.1f}" for task in tasks]
        lines.append(f"| {row.policy} | {'' if row.target is None else f'{row.target:.0%}'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def print_rows(rows: Sequence[PolicyRow], pool: ScoreMatrix, held: ScoreMatrix) -> None:
    """The table, on standard output."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in _HEADINGS:
        grid.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*_cells(row), style="dim" if "oracle" in row.policy else None)
    PlainConsole(width=200).print(grid)
    console.print(f"{len(held)} held-out questions; chosen and fitted on {len(pool)} others")
