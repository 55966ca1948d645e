"""Plots of search results."""

from collections.abc import Mapping, Sequence

import numpy

from cola_learn.chains import Chain
from cola_learn.plots import FADED, GRID, INK, ORACLE, REPEAT, SKIP, as_svg, themed


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


def depths(chains: Mapping[str, Mapping[str, Sequence[Chain]]], num_layers: int) -> str:
    """Depth and unique depth of chains, a row a store, a line a kind of question."""
    with themed(8.4, 0.7 + 1.9 * len(chains)) as figure:
        panels = figure.subplots(len(chains), 2, sharex="col", squeeze=False)
        for row, (name, kinds) in zip(panels, chains.items(), strict=True):
            for axes, measure in zip(row, ("depth", "unique_depth"), strict=True):
                for color, (kind, found) in zip((SKIP, REPEAT), kinds.items(), strict=True):
                    counts = numpy.bincount([getattr(chain, measure) for chain in found], minlength=num_layers + 1)
                    shares = 100 * counts / max(1, len(found))
                    axes.step(range(len(shares)), shares, where="mid", color=color, label=f"{kind} ({len(found)})")
                axes.axvline(num_layers, color=INK, linewidth=0.8, linestyle="--")
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
            row[0].set_title(name, loc="left", fontsize=10)
            row[1].legend(loc="upper right", frameon=False, fontsize=8.5)
        shortest = min(
            (chain.unique_depth for kinds in chains.values() for f in kinds.values() for chain in f), default=0
        )
        deepest = max((chain.depth for kinds in chains.values() for f in kinds.values() for chain in f), default=0)
        for axes, label in zip(panels[-1], ("depth (layers executed)", "unique depth (distinct layers)"), strict=True):
            axes.set_xlabel(label)
            axes.set_xlim(max(0, shortest - 1), max(num_layers, deepest) + 1)
        figure.supylabel("share of shallowest right chains", fontsize=10.5)
        return as_svg(figure)


def transitions(stores: Mapping[str, Mapping[str, int]]) -> str:
    """What a search does to answers, a bar a store."""
    colors = (SKIP, FADED, REPEAT, GRID)
    with themed(8.4, 1.3 + 0.42 * len(stores)) as figure:
        axes = figure.add_subplot()
        kinds = list(next(iter(stores.values())))
        left = numpy.zeros(len(stores))
        places = range(len(stores) - 1, -1, -1)
        for kind, color in zip(kinds, colors, strict=True):
            shares = numpy.array([100 * counts[kind] / max(1, sum(counts.values())) for counts in stores.values()])
            axes.barh(places, shares, left=left, color=color, height=0.7, label=kind)
            for place, start, share in zip(places, left, shares, strict=True):
                if share >= 5:
                    ink = "white" if color in (SKIP, REPEAT) else INK
                    axes.text(
                        start + share / 2, place, f"{share:.0f}%", ha="center", va="center", color=ink, fontsize=9
                    )
            left += shares
        axes.set_yticks(places, [f"{name} ({sum(counts.values())})" for name, counts in stores.items()])
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of questions, %")
        axes.grid(visible=False)
        figure.legend(loc="outside upper center", frameon=False, ncols=2, fontsize=9)
        return as_svg(figure)


def layer_heat(stores: Mapping[str, Sequence[Chain]], num_layers: int) -> str:
    """How often each layer runs in a chain on average, a row a store; white is once, as in the plain model."""
    with themed(8.4, 1.5 + 0.36 * len(stores)) as figure:
        axes = figure.add_subplot()
        runs = numpy.array(
            [
                [sum(chain.layers.count(layer) for chain in chains) / len(chains) for layer in range(num_layers)]
                for chains in stores.values()
            ]
        )
        limit = max(0.05, float(numpy.abs(runs - 1).max()))
        image = axes.imshow(runs, cmap="RdBu_r", vmin=1 - limit, vmax=1 + limit, aspect="auto")
        axes.set_yticks(range(len(stores)), list(stores))
        axes.set_xlabel("layer")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, shrink=0.9).set_label("mean executions")
        return as_svg(figure)


def percentiles(stores: Mapping[str, Mapping[int, Sequence[float]]], num_layers: int) -> str:
    """The depth at low percentiles of each question's good chains: median over questions, and the middle half."""
    with themed(8.4, 1.5 + 0.5 * len(stores)) as figure:
        axes = figure.add_subplot()
        marks = dict(zip(next(iter(stores.values())), ((SKIP, "o"), (ORACLE, "s"), (REPEAT, "^")), strict=True))
        for place, depths_at in enumerate(stores.values()):
            for step, (share, found) in enumerate(depths_at.items()):
                if not found:
                    continue
                low, middle, high = numpy.percentile(found, (25, 50, 75))
                color, marker = marks[share]
                height = -place + 0.22 * (1 - step)
                axes.plot([low, high], [height, height], color=color, linewidth=2)
                label = f"{share}th percentile" if place == 0 else None
                axes.plot(middle, height, marker, color=color, markersize=6, linestyle="none", label=label)
        axes.axvline(num_layers, color=INK, linewidth=0.8, linestyle="--")
        names = [f"{name} ({len(next(iter(found.values())))})" for name, found in stores.items()]
        axes.set_yticks([-place for place in range(len(stores))], names)
        axes.set_xlabel("depth within a question's good chains (median and middle half of questions)")
        figure.legend(loc="outside upper center", frameon=False, ncols=3, fontsize=9)
        return as_svg(figure)
