"""The layer heat map: what skipping or repeating each block of layers does to the margin, over a store's questions."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy

from cola_learn.chains import Edit, Skip
from cola_learn.label.prior import edit_gains
from cola_learn.label.records import Label
from cola_learn.plots import as_svg, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def heat_map(labels: Iterable[Label], num_layers: int) -> str | None:
    """The map as SVG: a panel for skips and for each number of executions, rows by block length, columns by the
    block's first layer, colour the mean change of margin in nats. None if the labels have no chain of one edit.
    """
    gains = {edit: gain for edit, (gain, _) in edit_gains(labels).items()}
    if not gains:
        return None
    panels: dict[int, dict[Edit, float]] = {}
    for edit, gain in gains.items():
        panels.setdefault(0 if isinstance(edit, Skip) else edit.times, {})[edit] = gain
    limit = (
        float(numpy.quantile(numpy.abs(list(gains.values())), 0.9)) or 1.0
    )  # a few ruinous edits would hide the rest
    with themed(9.0, 0.9 + 1.25 * len(panels)) as figure:
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for panel, times in zip(axes, sorted(panels), strict=True):
            title = "skipped" if times == 0 else f"run {times} times"
            image = _panel(panel, panels[times], num_layers, limit, title)
        axes[-1].set_xlabel("first layer of the block")
        bar = figure.colorbar(image, ax=list(axes), extend="both", shrink=0.9)
        bar.set_label("mean change of margin, nats")
        return as_svg(figure)


def _panel(axes: "Axes", gains: dict[Edit, float], num_layers: int, limit: float, title: str) -> "AxesImage":
    longest = max(edit.length for edit in gains)
    grid = numpy.full((longest, num_layers), numpy.nan)
    for edit, gain in gains.items():
        grid[edit.length - 1, edit.start] = gain
    axes.grid(visible=False)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_yticks(range(longest), [str(length + 1) for length in range(longest)])
    axes.set_ylabel("layers")
    return axes.imshow(grid, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", origin="lower")
