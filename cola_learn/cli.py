"""What every command shares: options from a dataclass, and errors of one line."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from types import FrameType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentError, ArgumentParser

from cola_learn.console import printable, quiet_libraries
from cola_learn.errors import UserError

Options = TypeVar("Options")


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
    except (UserError, MemoryError, RuntimeError) as error:
        if not isinstance(error, UserError):
            if not _out_of_memory(error):
                raise
            error = UserError(f"out of memory ({str(error).splitlines()[0]}); lower --trees or --cache_gib")
        print("error: " + printable(" ".join(str(error).split())), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print("stopped; the same command goes on from what is finished", file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _out_of_memory(error: BaseException) -> bool:
    """torch raises a RuntimeError where the host's memory is at an end, and one of its own where a GPU's is."""
    return isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error)


class Terminated(KeyboardInterrupt):
    """SIGTERM: what Ctrl-C ends in good order, a scheduler may end too."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated
