"""The report in the terminal."""

from rich.table import Table

from cola_learn.console import PlainConsole
from cola_learn.evaluate.markdown import measures
from cola_learn.evaluate.report import Report
from cola_learn.evaluate.results import PolicyRow
from cola_learn.rewards.reward import REWARDS
from cola_learn.stats import points

_LEFT = ("policy",)


def cells(report: Report, row: PolicyRow) -> dict[str, str]:
    """A row's cells by their headings; empty where there is nothing to say."""

    def starred(kind: str) -> str:
        return points(getattr(row, kind)) + ("*" if report.significant(row, kind) else "")

    return measures(report, row) | {
        "Δ base": "" if row.policy == "base" else starred("to_base"),
        "Δ static front": starred("to_static"),
        "Δ shuffled": starred("to_shuffled"),
        "Δ in task": starred("to_shuffled_in_task"),
    }


def filled(report: Report) -> list[str]:
    """The headings of those columns that hold anything."""
    every = [cells(report, row) for row in report.rows]
    return [heading for heading in every[0] if any(row[heading] for row in every)]


def print_report(report: Report) -> None:
    """Print what is said of it and the table to standard output."""
    console = PlainConsole(width=160)
    console.print(f"\n{report.headline}\n{report.best}\n", style="bold", soft_wrap=False, width=100)
    headings = filled(report)
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        grid.add_column(heading, justify="left" if heading in _LEFT else "right", no_wrap=True)
    for row in report.rows:
        style = "bold" if row.name in report.controllers else "dim" if row.oracle else None
        grid.add_row(*(cells(report, row)[heading] for heading in headings), style=style)
    console.print(grid)
    notes = [
        f"Δ: difference in {report.measure}, paired, points (95% CI); * p < 0.05, corrected for the number of policies "
        "(Holm). Oracles see the gold answer."
    ]
    if report.measure != "accuracy":
        notes.append(
            f"{report.measure}: {REWARDS[report.measure].about}. loss: to base, a token; worst 5%: what so many "
            "questions exceed; less than static front: share of its loss at equal depth that is not lost, % (95% CI)."
        )
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
