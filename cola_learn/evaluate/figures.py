"""Plots of accuracy against depth."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy

from cola_learn.evaluate.reliability import Reliability
from cola_learn.evaluate.statistics import PolicySummary, sees_gold
from cola_learn.plots import FADED, GRID, INK, ORACLE, REPEAT, SKIP, as_svg, themed


def accuracy_against_depth(policies: Mapping[str, PolicySummary], num_layers: int) -> str:
    """One point a policy, with the 95% interval of its difference to base."""
    from adjustText import adjust_text

    with themed(7.2, 4.4) as figure:
        axes = figure.add_subplot()
        base = policies["base"].accuracy
        axes.axhline(100 * base, color=GRID, linewidth=1.5)
        axes.axvline(num_layers, color=GRID, linewidth=1.5)
        points = _by_point(policies)
        texts, taken = [], []
        for point, names in points.items():
            row = policies[names[0]]
            color = REPEAT if "controller" in names else (ORACLE if sees_gold(names[0]) else SKIP)
            low = min(row.difference.mean - row.difference.low, row.accuracy)
            high = min(row.difference.high - row.difference.mean, 1 - row.accuracy)
            axes.errorbar(*point, yerr=[[100 * low], [100 * high]], fmt="o", color=color, capsize=3)
            taken += [(point[0], height) for height in numpy.linspace(point[1] - 100 * low, point[1] + 100 * high, 25)]
            texts.append(axes.text(*point, ", ".join(names).replace("_", " "), color=color, fontsize=9))
        axes.set_xlabel("mean depth (layers executed)")
        axes.set_ylabel("accuracy, %")
        axes.margins(x=0.2, y=0.1)
        x, y = zip(*taken, strict=True)
        target_x, target_y = zip(*points, strict=True)
        leader = {"arrowstyle": "-", "color": FADED, "linewidth": 0.7}
        adjust_text(texts, x, y, None, target_x, target_y, ax=axes, expand=(1.15, 1.4), iter_lim=300, arrowprops=leader)
        return as_svg(figure)


def _by_point(policies: Mapping[str, PolicySummary]) -> dict[tuple[float, float], list[str]]:
    """Policies at each (depth, accuracy in %), in order of depth, so that equal ones share a label."""
    points: dict[tuple[float, float], list[str]] = {}
    for name, row in sorted(policies.items(), key=lambda item: item[1].depth):
        points.setdefault((round(row.depth, 2), round(100 * row.accuracy, 1)), []).append(name)
    return points


def accuracy_curves(rows: Sequence[Any], num_layers: float, without: Collection[str] = ()) -> str:
    """Accuracy against depth of every policy of a menu evaluation; oracles are left out, and those named."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.target is not None and "oracle" not in row.policy and row.policy not in without:
            curves.setdefault(row.policy, []).append((row.depth, 100 * row.accuracy))
    base = next(row for row in rows if row.policy == "base")
    with themed(7.6, 4.6) as figure:
        axes = figure.add_subplot()
        axes.axhline(100 * base.accuracy, color=GRID, linewidth=1.5)
        axes.axvline(num_layers, color=GRID, linewidth=1.5)
        axes.plot([num_layers], [100 * base.accuracy], "s", color=INK, label="base")
        for name, points in curves.items():
            static = name == "static"
            axes.plot(
                *zip(*sorted(points), strict=True),
                marker="o",
                markersize=4,
                color=INK if static else None,
                linestyle="--" if static else "-",
                label=name.replace("_", " "),
            )
        axes.set_xlabel("mean depth (layers executed)")
        axes.set_ylabel("accuracy, %")
        axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1, 0.5))
        return as_svg(figure)


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
