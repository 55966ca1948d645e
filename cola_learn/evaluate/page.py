"""The report as a page, and its"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from cola_learn.chains import Chain
from cola_learn.evaluate.breakdown import Reliability
from cola_learn.evaluate.report import Report, explained
from cola_learn.evaluate.results import Evaluated, PolicyRow, Result, seedless
from cola_learn.evaluate.tables import heights, p_text
from cola_learn.files import write_text
from cola_learn.plots import FADED, GRID, INK, ORACLE, REPEAT, SKIP, as_svg, plot, themed
from cola_learn.stats import points
from cola_learn.tasks.questions import Question

_EXAMPLES = 10  # questions won, and as many lost
_STRIPS = 4  # policies whose layers are drawn


@dataclass(frozen=True)
class Example:
    """A question that base and a policy answer differently."""

    question: Question
    chain: Chain
    answer: int
    base_answer: int


def write_html(path: Path, report: Report, evaluated: Evaluated) -> None:
    """Write the page: one file, no script, nothing loaded from elsewhere, all dataset text escaped."""
    results = {result.name: result for result in evaluated.results}
    base, main = evaluated.results[0], results[report.main.name]
    assert base.chains is not None
    num_layers = base.chains[0].num_layers
    curves = any(row.target is not None for row in report.rows)
    draw = accuracy_curves if curves else accuracy_against_depth
    shown = ["static", *report.controllers, "search_oracle"]
    environment = Environment(loader=PackageLoader("cola_learn.evaluate", "."), autoescape=True)
    page = environment.get_template("report.html").render(
        report=report,
        explained={row.policy: explained(row) for row in report.rows},
        points=points,
        p_text=p_text,
        num_layers=num_layers,
        curves=curves,
        heights=heights(report.rows),
        depth_plot=Markup(draw(report.rows, num_layers, report.measure)),
        reliability_plot=Markup(reliability_curves(report.reliability)) if report.reliability else None,
        strips=[
            (name, layer_shares(result.chains))
            for name in shown
            if (result := results.get(name)) is not None and result.chains is not None
        ][:_STRIPS],
        won=_examples(evaluated.questions, base, main, 1),
        lost=_examples(evaluated.questions, base, main, -1),
    )
    write_text(path, page)


def _examples(questions: Sequence[Question], base: Result, main: Result, sign: int) -> list[Example]:
    assert main.chains is not None
    assert main.answers is not None
    assert base.answers is not None
    over = sign * (main.rewards - base.rewards)
    places = sorted((place for place in range(len(questions)) if over[place] > 0), key=lambda place: -over[place])
    return [
        Example(questions[place], main.chains[place], main.answers[place], base.answers[place])
        for place in places[:_EXAMPLES]
    ]


def layer_shares(chains: Sequence[Chain]) -> list[tuple[float, float]]:
    """For each layer the shares of chains that skip it and that run it more than once."""
    counts = [[chain.layers.count(layer) for chain in chains] for layer in range(chains[0].num_layers)]
    return [
        (sum(count == 0 for count in layer) / len(chains), sum(count > 1 for count in layer) / len(chains))
        for layer in counts
    ]


_COLOURS = 10  # of matplotlib's cycle


@plot
def accuracy_against_depth(rows: Sequence[PolicyRow], num_layers: int, measure: str = "accuracy") -> str:
    """One point a policy, with the 95% interval of its difference to base."""
    from adjustText import adjust_text

    with themed(7.2, 4.4) as figure:
        axes = figure.add_subplot()
        axes.axhline(100 * rows[0].accuracy, color=GRID, linewidth=1.5)
        axes.axvline(num_layers, color=GRID, linewidth=1.5)
        points = _by_point(rows)
        texts, taken = [], []
        for point, same in points.items():
            row = same[0]
            known = row.policy in ("base", "static")
            color = ORACLE if row.oracle else SKIP if known else REPEAT
            low = numpy.clip(row.to_base.mean - row.to_base.low, 0, row.accuracy)
            high = numpy.clip(row.to_base.high - row.to_base.mean, 0, max(0.0, 1 - row.accuracy))
            axes.errorbar(*point, yerr=[[100 * low], [100 * high]], fmt="o", color=color, capsize=3)
            taken += [(point[0], height) for height in numpy.linspace(point[1] - 100 * low, point[1] + 100 * high, 25)]
            names = ", ".join(row.policy for row in same).replace("_", " ")
            texts.append(axes.text(*point, names, color=color, fontsize=9))
        axes.set_xlabel("mean depth (layers executed)")
        axes.set_ylabel(f"{measure}, %")
        axes.margins(x=0.2, y=0.1)
        x, y = zip(*taken, strict=True)
        target_x, target_y = zip(*points, strict=True)
        leader = {"arrowstyle": "-", "color": FADED, "linewidth": 0.7}
        adjust_text(texts, x, y, None, target_x, target_y, ax=axes, expand=(1.15, 1.4), iter_lim=300, arrowprops=leader)
        return as_svg(figure)


def _by_point(rows: Sequence[PolicyRow]) -> dict[tuple[float, float], list[PolicyRow]]:
    """Policies at each (depth, accuracy in %), in order of depth, so that equal ones share a label."""
    points: dict[tuple[float, float], list[PolicyRow]] = {}
    for row in sorted(rows, key=lambda row: row.depth):
        points.setdefault((round(row.depth, 2), round(100 * row.accuracy, 1)), []).append(row)
    return points


@plot
def accuracy_curves(rows: Sequence[PolicyRow], num_layers: int, measure: str = "accuracy") -> str:
    """Accuracy against depth of every policy that is set to several depths; oracles are left out, and controllers whose
    mean over seeds is drawn."""
    means = {row.policy.partition(", mean of")[0] for row in rows if ", mean of" in row.policy}
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        drawn = row.target is not None and not row.oracle
        if drawn and (seedless(row.policy) == row.policy or seedless(row.policy) not in means):
            curves.setdefault(row.policy, []).append((row.depth, 100 * row.accuracy))
    base = rows[0]
    with themed(7.6, 4.6) as figure:
        axes = figure.add_subplot()
        axes.axhline(100 * base.accuracy, color=GRID, linewidth=1.5)
        axes.axvline(num_layers, color=GRID, linewidth=1.5)
        axes.plot([num_layers], [100 * base.accuracy], "s", color=INK, label="base")
        others = [name for name in curves if name != "static_front"]
        for name, points in curves.items():
            static = name == "static_front"
            again = not static and others.index(name) >= _COLOURS  # the same colours, told apart by markers and lines
            axes.plot(
                *zip(*sorted(points), strict=True),
                marker="s" if again else "o",
                markersize=4,
                color=INK if static else None,
                linestyle="--" if static else "-." if again else "-",
                label=name.replace("_", " "),
            )
        axes.set_xlabel("mean depth (layers executed)")
        axes.set_ylabel(f"{measure}, %")
        axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1, 0.5))
        return as_svg(figure)


@plot
def reliability_curves(found: Sequence[Reliability]) -> str:
    """Realised against predicted gains of each controller, in bins; on the diagonal they are true."""
    with themed(5.2, 4.6) as figure:
        axes = figure.add_subplot()
        edges = [value for one in found for value in (*one.predicted, *one.realised)]
        axes.plot([min(edges), max(edges)], [min(edges), max(edges)], color=GRID, linewidth=1.5)
        for one in found:
            axes.plot(one.predicted, one.realised, marker="o", markersize=4, label=one.controller)
        axes.set_xlabel("predicted gain, nats")
        axes.set_ylabel("realised gain, nats")
        axes.legend(frameon=False, fontsize=8.5)
        return as_svg(figure)
