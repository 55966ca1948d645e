"""What every command shares: options from a dataclass, one-line errors, the console and the progress bar."""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentError, ArgumentParser
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

console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)
Options = TypeVar("Options")


class UserError(Exception):
    """Something the user can put right: printed as one line, exit code 2, no traceback.

    The message names the file, field or option, the value given, and what would have been right.
    """


def run_command(
    options_class: type[Options],
    run: Callable[[Options], object],
    name: str,
    description: str,
    positional: tuple[str, ...] = (),
) -> None:
    """Parse ``--config FILE`` and options into ``options_class`` and run the stage ``name`` with them.

    Fields named in ``positional`` are given without their names, or behind it where ``--name`` stands there. Lists take
    several values.
    """
    parser = ArgumentParser(prog=f"python -m {name}", description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file that sets any of the options below")
    kinds = get_type_hints(options_class)
    own = {name.lstrip("-") for name in positional}
    lists = [name for name, kind in kinds.items() if get_origin(kind) is list]
    every = {field.name: field for field in fields(options_class)}  # type: ignore[arg-type]
    optional = {name: every[name] for name in lists if name not in own}
    parser.add_class_arguments(options_class, as_group=False, skip=own | optional.keys())
    explained = {entry.arg_name: entry.description for entry in parse_docstring(options_class.__doc__ or "").params}
    for name_or_flag in (*positional, *(f"--{name}" for name in optional)):
        field = name_or_flag.lstrip("-")
        kind = get_args(kinds[field])[0] if field in lists else kinds[field]
        more: dict[str, Any] = {"nargs": "+"} if field in lists else {}
        if field in optional:
            more["default"] = optional[field].default_factory()  # type: ignore[operator]
        elif name_or_flag != field:
            more["required"] = True
        parser.add_argument(name_or_flag, type=kind, help=explained.get(field) or field, **more)
    with user_errors():
        try:
            flags = {name for name, kind in kinds.items() if kind is bool}
            arguments = parser.instantiate(parser.parse_args(_spelled(sys.argv[1:], flags)))
            options = options_class(**{key: value for key, value in vars(arguments).items() if key != "config"})
        except (ArgumentError, ValueError) as error:
            raise UserError(f"{getattr(error, 'message', error)} (see python -m {name} --help)") from None
        run(options)


def _spelled(arguments: Sequence[str], flags: set[str]) -> list[str]:
    """Arguments as the parser takes them: hyphens in the names of options as underscores, and a flag without a value
    as true."""
    found = []
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            name = "--" + name[2:].replace("-", "_")
            behind = arguments[place + 1].lower() if place + 1 < len(arguments) else ""
            if name[2:] in flags and not equals and behind not in ("true", "false", "yes", "no"):
                equals, value = "=", "true"
        found.append(name + equals + value)
    return found


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn :class:`UserError` into one line and exit code 2, Ctrl-C and a scheduler's SIGTERM into one line and exit
    codes 130 and 143."""
    quiet_libraries()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print("stopped; the same command goes on from what is finished", file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


class Terminated(KeyboardInterrupt):
    """SIGTERM: what Ctrl-C ends in good order, a scheduler may end too."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def quiet_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal, so that the stage's own output can be read."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def end_with_parent() -> None:
    """Have this process, a worker that :mod:`multiprocessing` has started, end as soon as its parent has, even by a
    ``kill -9``: it would wait for ever for more to do, and keep its memory."""
    parent = multiprocessing.parent_process()
    assert parent

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def writable_folder(folder: Path) -> Path:
    """Create ``folder`` if need be.

    Raises:
        UserError: if it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}; name another folder") from None
    return folder


def digest(settings: Mapping[str, Any], *files: Path) -> str:
    """A name for finished work: hex digits that change with the settings and with what is in the files."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


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
        column(TextColumn, "{task.description}"),
        BarColumn(bar_width=16),
        column(MofNCompleteColumn),
        column(_RateColumn),
        column(TimeRemainingColumn),
        TextColumn("left"),
        column(TextColumn, "[dim]{task.fields[note]}", overflow="ellipsis"),
        console=console,
        refresh_per_second=4,
        speed_estimate_period=600,  # good chains run again in spells during which nothing advances
        disable=not shown,
    )


def next_command(*commands: str) -> None:
    """Print what to run next, each command alone on its line so that it can be copied."""
    console.print("\n[bold]next[/bold]")
    for command in commands:
        console.print(f"  {command}", soft_wrap=True, markup=False)
