"""The theme that all plots share, and plots as SVG text."""

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ParamSpec

from cola_learn.console import console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Given = ParamSpec("Given")
INK, GRID, SKIP, REPEAT = "#1f2933", "#d9dee3", "#2563eb", "#d97706"
ORACLE, FADED = "#94a3b8", "#a9c4f5"
_THEME: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "cola-learn",
    "text.parse_math": False,  # names may hold a dollar sign
}


def plot(draw: Callable[Given, str]) -> Callable[Given, str]:
    """A function that draws an SVG, or gives "" and says so where what draws it is not installed."""

    @functools.wraps(draw)
    def drawn(*args: Given.args, **kwargs: Given.kwargs) -> str:
        if all(map(find_spec, ("matplotlib", "adjustText"))):
            return draw(*args, **kwargs)
        _say_that_none_is_drawn()
        return ""

    return drawn


@functools.cache
def _say_that_none_is_drawn() -> None:
    console.print("plots       are not drawn; pip install 'cola-learn[plots]'")


@contextmanager
def themed(width: float, height: float) -> Iterator["Figure"]:
    """A figure of that many inches in the project's theme."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_THEME):
        yield Figure(figsize=(width, height), layout="constrained")


def as_svg(figure: "Figure") -> str:
    """The figure as an ``<svg>`` element."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
