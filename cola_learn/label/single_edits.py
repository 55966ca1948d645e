"""What single edits gain over the questions of a store: as the prior of searches, and as a heat map."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy

from cola_learn.chains import Edit, Skip
from cola_learn.errors import UserError
from cola_learn.label.records import Label
from cola_learn.label.store import LabelStore
from cola_learn.plots import as_svg, plot, themed
from cola_learn.search.method import Prior, SearchMethod

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def edit_gains(labels: Iterable[Label]) -> dict[Edit, tuple[float, int]]:
    """For every single edit tried: its mean gain in margin over the base chain, in nats, and on how many questions."""
    sums: dict[Edit, float] = defaultdict(float)
    counts: dict[Edit, int] = defaultdict(int)
    for label in labels:
        for trial in label.trials[1:]:
            try:
                edits = trial.chain.edits()
            except ValueError:  # a chain of nested edits
                continue
            if len(edits) == 1:
                sums[edits[0]] += trial.margin - label.base.margin
                counts[edits[0]] += 1
    return {edit: (sums[edit] / counts[edit], counts[edit]) for edit in sums}


def load_prior(method: SearchMethod, num_layers: int) -> Prior | None:
    """The prior that a search method names by its setting ``prior``, a label store: softmax(mean gain /
    ``prior_temperature``) over the store's single edits.

    Raises:
        UserError: if there is nothing of use.
    """
    folder = vars(method).get("prior")
    if folder is None:
        return None
    store = LabelStore.open(folder, "--search.prior")
    if store.manifest.model.num_layers != num_layers:
        raise UserError(
            f"--search.prior {folder} is of a backbone of {store.manifest.model.num_layers} layers, not {num_layers}"
        )
    prior = gains_as_prior(store, vars(method).get("prior_temperature", 0.25))
    if not prior:
        raise UserError(f"--search.prior {folder} has no chains of one edit; make one with --search Scan")
    return prior


def gains_as_prior(labels: Iterable[Label], temperature: float) -> Prior:
    """Softmax of the edits' mean gains in margin over a temperature, both in nats; not normalised."""
    gains = {edit: gain for edit, (gain, _) in edit_gains(labels).items()}
    best = max(gains.values(), default=0.0)
    return {edit: math.exp((gain - best) / temperature) for edit, gain in gains.items()}


@plot
def heat_map(labels: Iterable[Label], num_layers: int) -> str:
    """The map as SVG: a panel for skips and for each number of executions, rows by block length, columns by the
    block's first layer, colour the mean change of margin in nats.

    Raises:
        UserError: if the labels have no chain of one edit.
    """
    gains = {edit: gain for edit, (gain, _) in edit_gains(labels).items()}
    if not gains:
        raise UserError("there are no chains of one edit to draw; label --search Scan makes them all")
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
