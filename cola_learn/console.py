"""The terminal: the console, the progress bar, what to run next."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text


def printable(text: str) -> str:
    """Text with nothing in it that steers a terminal or cannot be written: such characters are shown as escapes."""
    if text.isprintable():
        return text
    shown = (char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text)
    return "".join(shown)


class PlainConsole(Console):
    """A console that takes names, paths and texts of data sets as they are: no markup in them, no escape codes."""

    def __init__(self, width: int | None = 120, stderr: bool = False) -> None:
        """``width`` is that where there is no terminal; None asks the environment."""
        terminal = (sys.stderr if stderr else sys.stdout).isatty()
        super().__init__(stderr=stderr, highlight=False, markup=False, width=None if terminal else width)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


console = PlainConsole(stderr=True)


def quiet_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal, so that the stage's own output can be read."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed, unit = task.finished_speed or task.speed, task.fields["unit"]
        if not speed:
            return Text()
        return Text(f"{speed:.1f} {unit}/s" if speed >= 1 else f"{60 * speed:.1f} {unit}/min", style="cyan")


class _LoggedProgress(Progress):
    """A progress bar that, where there is no terminal to redraw on, prints a line every half minute."""

    _printed = 0.0

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        if not self.disable and not self.console.is_terminal and time.monotonic() - self._printed > 30:
            self._printed = time.monotonic()
            self.console.print(self.get_renderable())


def progress_bar(shown: bool = True) -> Progress:
    """A bar with count, rate and time left; tasks pass ``unit=`` and ``note=``. What is over at once shows none."""

    def column(kind: Callable[..., ProgressColumn], *args: Any, **kwargs: Any) -> ProgressColumn:
        return kind(*args, table_column=Column(no_wrap=True, **kwargs))

    return _LoggedProgress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=16),
        column(MofNCompleteColumn),
        column(_RateColumn),
        column(TimeRemainingColumn),
        TextColumn("left"),
        TextColumn("{task.fields[note]}", "dim", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        console=console,
        refresh_per_second=4,
        speed_estimate_period=30,  # what else the machine does now counts
        disable=not shown,
    )


def next_command(*commands: Sequence[object]) -> None:
    """Print what to run next, each command alone on its line so that it can be copied.

    Args:
        commands: what is written as it is, and arguments, which are quoted for a shell.
    """
    console.print("\nnext", style="bold")
    for command, *arguments in commands:
        console.print(f"  {command} {shlex.join(map(str, arguments))}", soft_wrap=True)
