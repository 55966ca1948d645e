"""The report as tables: in the terminal, and in Markdown."""

from collections.abc import Iterable, Sequence

import numpy
from rich.table import Table

from cola_learn.console import PlainConsole
from cola_learn.evaluate.report import DIFFERENCES, Report
from cola_learn.evaluate.results import PolicyRow
from cola_learn.rewards.reward import REWARDS
from cola_learn.stats import points


def as_markdown(report: Report) -> str:
    """What is said of it, the table, differences to base by group, heights over the static front and reliability."""
    lines = [report.headline, "", report.best, "", *policy_table(report, report.rows), ""]
    lines.append(f"{report.n} held-out questions ({report.setting['tasks']}), {report.labelled} labelled ones.")
    lines += [f"\n{said}" for said in (report.luck_said, report.power) if said]
    for name, counts in report.groups.items():
        if len(counts) < 2:
            continue
        lines += ["", f"Difference to base in points, by {name}:", ""]
        lines += table(
            ("policy", "set to", *(f"{group} ({count})" for group, count in counts.items())),
            (
                [row.policy, share(row.target), *(f"{100 * value:+.1f}" for value in row.by_group[name].values())]
                for row in report.rows[1:]
            ),
        )
    if over := heights(report.rows):
        lines += ["", "Mean height of the curve of each policy over the static front, in points:", ""]
        lines += table(
            ("policy", "layers", "height"),
            ([name, f"{low:.1f} to {high:.1f}", f"{100 * height:+.1f}"] for name, low, high, height in over),
        )
    if report.reliability:
        lines += ["", "Predicted gains of all chains but base, in nats of the right option's log-probability:", ""]
        lines += table(
            ("controller", "expected calibration error", "correlation with realised gains"),
            ([one.controller, f"{one.error:.4f}", f"{one.correlation:.3f}"] for one in report.reliability),
        )
    return "\n".join(lines) + "\n"


def policy_table(report: Report, rows: Sequence[PolicyRow]) -> list[str]:
    """Some rows with all differences and p-values (Holm), without columns that hold nothing."""
    every = [measures(report, row) | _differences(report, row) for row in rows]
    headings = [heading for heading in every[0] if any(cells[heading] for cells in every)]
    return table([heading.rstrip() for heading in headings], ([cells[one] for one in headings] for cells in every))


def measures(report: Report, row: PolicyRow) -> dict[str, str]:
    """The cells of a row before the differences, by their headings; empty where there is nothing to say."""
    return {
        "policy": row.policy,
        "set to": share(row.target),
        "price": "" if row.price is None else f"{row.price:.3g}",
        "layers": f"{row.depth:.1f}",
        "FLOPs": f"{row.cost.flops:.0%}" if row.cost else "",
        "time": f"{row.cost.seconds:.0%}" if row.cost else "",
        report.measure: f"{row.accuracy:.1%}",
        "loss": "" if row.loss is None else f"{row.loss:.3f}",
        "worst 5%": "" if row.worst is None else f"{row.worst:.3f}",
        "saved, %": points(row.saved),
    }


def _differences(report: Report, row: PolicyRow) -> dict[str, str]:
    base = row.policy == "base"
    p = {kind: p_text(report.p_holm[kind].get(row.name)) for kind in DIFFERENCES}
    return {
        "Δ base (95% CI)": "" if base else points(row.to_base),
        "p": p["to_base"],
        "Δ static front (95% CI)": points(row.to_static),
        "p ": p["to_static"],
        "Δ shuffled (95% CI)": points(row.to_shuffled),
        "p  ": p["to_shuffled"],
        "Δ in task (95% CI)": points(row.to_shuffled_in_task),
        "p   ": p["to_shuffled_in_task"],
        "base share": f"{row.collapse['base_share']:.0%}" if row.collapse else "",
    }


def p_text(p: float | None) -> str:
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def share(target: float | None) -> str:
    return "" if target is None else f"{target:.0%}"


def heights(rows: Sequence[PolicyRow]) -> list[tuple[str, float, float, float]]:
    """Of every policy with several depths: its name, least and largest depth, and the mean height of its curve over the
    static front between them, by the trapezoidal rule."""
    found = []
    set_to = [row for row in rows if row.target is not None]
    for name in dict.fromkeys(row.policy for row in set_to):
        own = sorted((row.depth, row.to_static.mean) for row in set_to if row.policy == name and row.to_static)
        if len(own) > 1 and own[-1][0] > own[0][0]:
            depths, over = zip(*own, strict=True)
            height = float(numpy.trapezoid(over, depths)) / (depths[-1] - depths[0])
            found.append((name, depths[0], depths[-1], height))
    return found


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


_LEFT = ("policy",)


def cells(report: Report, row: PolicyRow) -> dict[str, str]:
    """A row's cells by their headings; empty where there is nothing to say."""

    def starred(kind: str) -> str:
        return points(getattr(row, kind)) + ("*" if report.significant(row, kind) else "")

    return measures(report, row) | {
        "Δ base": "" if row.policy == "base" or row.loss is not None else starred("to_base"),
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
            f"{report.measure}: {REWARDS[report.measure].about}. loss: to base, in nats a token; worst 5%: what so "
            "many questions exceed; saved: share of the static front's loss at equal depth that is not lost (95% CI)."
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
