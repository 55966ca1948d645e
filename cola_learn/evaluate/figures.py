"""The plots of the report."""

from collections.abc import Mapping, Sequence

from cola_learn.chains import Chain
from cola_learn.evaluate.statistics import PolicySummary, sees_gold
from cola_learn.plots import GRID, INK, ORACLE, REPEAT, SKIP, as_svg, themed


def accuracy_against_depth(policies: Mapping[str, PolicySummary], num_layers: int) -> str:
    """One point a policy, with the 95% interval of its difference to base."""
    with themed(7.2, 4.4) as figure:
        axes = figure.add_subplot()
        base = policies["base"].accuracy
        axes.axhline(100 * base, color=GRID, linewidth=1.5)
        axes.axvline(num_layers, color=GRID, linewidth=1.5)
        points = _by_point(policies)
        span = max(depth for depth, _ in points) - min(depth for depth, _ in points)
        for place, (point, names) in enumerate(points.items()):
            row = policies[names[0]]
            color = REPEAT if "controller" in names else (ORACLE if sees_gold(names[0]) else SKIP)
            low = min(row.difference.mean - row.difference.low, row.accuracy)
            high = min(row.difference.high - row.difference.mean, 1 - row.accuracy)
            axes.errorbar(*point, yerr=[[100 * low], [100 * high]], fmt="o", color=color, capsize=3)
            label = ", ".join(names).replace("_", " ")
            up = 5 if place % 2 == 0 else -12  # neighbours in depth are often close
            crowded = any(0 < x - point[0] < span / 3 and abs(y - point[1]) < 8 for x, y in points)
            aside = {"xytext": (-7, up), "ha": "right"} if crowded else {"xytext": (7, up)}
            axes.annotate(label, point, textcoords="offset points", fontsize=9, **aside)
        axes.set_xlabel("mean depth (layers executed)")
        axes.set_ylabel("accuracy, %")
        axes.margins(x=0.2, y=0.1)
        return as_svg(figure)


def _by_point(policies: Mapping[str, PolicySummary]) -> dict[tuple[float, float], list[str]]:
    """Policies at each (depth, accuracy in %), in order of depth, so that equal ones share a label."""
    points: dict[tuple[float, float], list[str]] = {}
    for name, row in sorted(policies.items(), key=lambda item: item[1].depth):
        points.setdefault((round(row.depth, 2), round(100 * row.accuracy, 1)), []).append(name)
    return points


def layer_use(policies: Mapping[str, Sequence[Chain]], num_layers: int) -> str:
    """How often each layer is skipped and repeated, one panel a policy."""
    with themed(7.2, 1.0 + 1.9 * len(policies)) as figure:
        panels = figure.subplots(len(policies), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (name, chains) in zip(panels, policies.items(), strict=True):
            counts = [[chain.layers.count(layer) for chain in chains] for layer in range(num_layers)]
            skipped = [100 * sum(count == 0 for count in layer) / len(chains) for layer in counts]
            repeated = [100 * sum(count > 1 for count in layer) / len(chains) for layer in counts]
            places = range(num_layers)
            axes.bar(places, skipped, color=SKIP, width=0.8, label="skipped")
            axes.bar(places, [-share for share in repeated], color=REPEAT, width=0.8, label="repeated")
            axes.axhline(0, color=INK, linewidth=0.8)
            axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
            axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}%")
        panels[0].legend(loc="upper right", frameon=False, ncols=2, fontsize=9, bbox_to_anchor=(1, 1.3))
        panels[-1].set_xlabel("layer")
        figure.supylabel("share of questions", fontsize=10.5)
        return as_svg(figure)
