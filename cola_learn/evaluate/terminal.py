"""The report in the terminal."""

from collections.abc import Sequence

from rich.table import Table

from cola_learn.console import PlainConsole
from cola_learn.evaluate.markdown import measures
from cola_learn.evaluate.report import Report
from cola_learn.evaluate.results import PolicyRow
from cola_learn.intervals import Interval, points

_LEFT = ("policy",)


def cells(row: PolicyRow) -> dict[str, str]:
    """A row's cells by their headings; empty where there is nothing to say."""
    return measures(row) | {
        "Δ base": "" if row.policy == "base" else _starred(row.to_base, row.p_base),
        "Δ static front": _starred(row.to_static, row.p_static),
        "Δ shuffled": _starred(row.to_shuffled, row.p_shuffled),
        "Δ in task": _starred(row.to_shuffled_in_task, row.p_shuffled_in_task),
    }


def filled(rows: Sequence[PolicyRow]) -> list[str]:
    """The headings of those columns that hold anything."""
    return [heading for heading in cells(rows[0]) if any(cells(row)[heading] for row in rows)]


def _starred(interval: Interval | None, p: float | None) -> str:
    return points(interval) + ("*" if p is not None and p < 0.05 else "")


def print_report(report: Report) -> None:
    """Print what is said of it and the table to standard output: a star where p < 0.05."""
    console = PlainConsole(width=160)
    console.print(f"\n{report.headline}\n{report.best}\n", style="bold", soft_wrap=False, width=100)
    headings = filled(report.rows)
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        grid.add_column(heading, justify="left" if heading in _LEFT else "right", no_wrap=True)
    for row in report.rows:
        style = "bold" if row.name in report.controllers else "dim" if row.oracle else None
        grid.add_row(*(cells(row)[heading] for heading in headings), style=style)
    console.print(grid)
    notes = ["Δ: difference in accuracy, paired, points (95% interval), * p < 0.05. Oracles see the gold answer."]
    if "Δ shuffled" in headings:
        notes.append(
            "Δ shuffled: to its own choices dealt to other questions"
            + ("; in task: of the same task." if "Δ in task" in headings else ".")
        )
    if report.measured:
        notes.append(f"FLOPs, time: of a question relative to base, controller included; {report.measured}.")
    notes += [report.luck_said, report.power]
    notes.append(f"{report.n} held-out questions ({report.title}); chosen on {report.labelled} labelled ones.")
    console.print("\n" + "\n".join(filter(None, notes)) + "\n", style="dim", width=120)
