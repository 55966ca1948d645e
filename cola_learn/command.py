"""What every command shares: options from a dataclass, subcommands, and errors of one line."""

import difflib
import os
import re
import signal
import sys
import textwrap
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import FrameType, UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace

from cola_learn.console import printable, quiet_libraries
from cola_learn.errors import UserError, first_line

# Threads that wait for work sleep (where torch is not imported yet): spinning, they take the cores from those that
# work, as soon as anything else runs on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Options = TypeVar("Options")
Value = TypeVar("Value")
GROUP = {"group": True}
"""Metadata of a field, a dataclass of its own, whose fields are options of the command by their own names."""


@dataclass(frozen=True)
class Command(Generic[Options]):
    """One command.

    Attributes:
        options: dataclass of its options, whose docstring explains them.
        run: what it does with them; where it is slow to import, as ``module:function``.
        about: what ``--help`` says of it.
        positional: fields that are given without their names, or not at all if they are None by default; or, written
            ``--name``, that have to be given.
        examples: command lines that ``--help`` shows.
        seldom: options that only ``--help.all`` shows, by their names or the beginnings of those.
    """

    options: type[Options]
    run: Callable[[Options], object] | str
    about: str
    positional: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    seldom: tuple[str, ...] = ("wandb", "print_config")

    def __call__(self, name: str, arguments: Sequence[str] | None = None) -> None:
        """Run ``python -m name`` with these arguments, by default those of the command line."""
        with user_errors():
            given = sys.argv[1:] if arguments is None else arguments
            try:
                options = self._parse(name, given)
            except (ArgumentError, ValueError) as error:
                said = _as_said(str(getattr(error, "message", error)), self._values())
                raise UserError(f"{said} (see python -m {name} --help)") from None
            run = self.run
            if isinstance(run, str):
                module, _, function = run.partition(":")
                run = getattr(import_module(module), function)
            run(options)

    def _values(self) -> list[type]:
        """The dataclasses whose fields are options: the command's own, and its groups."""
        return [self.options, *self._groups().values()]

    def _groups(self) -> dict[str, type]:
        kinds = get_type_hints(self.options)
        return {field.name: kinds[field.name] for field in _fields(self.options) if field.metadata.get("group")}

    def _parse(self, name: str, arguments: Sequence[str]) -> Options:
        groups = self._groups()
        flags = {name for each in self._values() for name, kind in get_type_hints(each).items() if kind is bool}
        parser, spelled = self._parser(name), _spelled(arguments, flags)
        if "--help.all" not in arguments:
            for action in parser._actions:
                if action.dest.split(".")[0] in self.seldom or action.dest in self.seldom:
                    action.help = SUPPRESS
        spelled = ["--help" if one == "--help.all" else one for one in spelled]
        parsed, before = parser.parse_args(spelled), parser.get_defaults()
        for field, given in vars(parsed).items():
            chosen = getattr(given, "class_path", None)
            if chosen and chosen != before[field].class_path:  # or the settings of one class became another's
                parser.set_defaults({field: {"class_path": chosen}})
                parsed = parser.parse_args(spelled)
        values = vars(parser.instantiate(parsed))
        values.pop("config")
        for group, kind in groups.items():
            values[group] = kind(**{field.name: values.pop(field.name) for field in _fields(kind)})
        return self.options(**values)

    def _parser(self, name: str) -> ArgumentParser:
        """Takes ``--config FILE`` and the fields of the options; lists take several values."""
        examples = "\n".join(f"  {example}" for example in self.examples)
        about = textwrap.fill(self.about, 100) + (f"\n\nexamples:\n{examples}" if examples else "")
        spared = {field.name for field in _fields(self.options) if field.default is None}
        required = " ".join(
            f"{one} {one.lstrip('-').upper()}" if "-" in one else f"[{one.upper()}]" if one in spared else one.upper()
            for one in self.positional
        )
        usage = f"python -m {name} {required}{' ' if required else ''}[--config FILE] [--OPTION VALUE ...]"
        parser = ArgumentParser(
            prog=f"python -m {name}", usage=usage, description=about, exit_on_error=False, formatter_class=_Help
        )
        parser.add_argument("--config", action="config", help="YAML file that sets any of the options below")
        parser.add_argument("--help.all", action="help", help=f"show {', '.join(self.seldom[:-1])} too")
        kinds, every = get_type_hints(self.options), {field.name: field for field in _fields(self.options)}
        own = {name.lstrip("-") for name in self.positional}
        groups = self._groups()
        items = {name: item for name, kind in kinds.items() if (item := _item_of(kind))}
        optional = {name: every[name] for name in items if name not in own}
        parser.add_class_arguments(self.options, as_group=False, skip=own | optional.keys() | groups.keys())
        explained = {one.arg_name: one.description for one in parse_docstring(self.options.__doc__ or "").params}
        for name_or_flag in (*self.positional, *(f"--{name}" for name in optional)):
            field = name_or_flag.lstrip("-")
            kind = items.get(field, kinds[field])
            more: dict[str, Any] = {"nargs": "+"} if field in items else {}
            if name_or_flag in own and every[field].default is None:
                more["nargs"] = "?"
            if field in optional:
                default, made = optional[field].default, optional[field].default_factory
                more["default"] = default if made is MISSING else made()
            elif name_or_flag != field:
                more["required"] = True
            parser.add_argument(name_or_flag, type=kind, help=explained.get(field) or field, **more)
        for kind in groups.values():
            parser.add_class_arguments(kind, as_group=True)
        return parser


class _Help(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Options with their defaults; types are not shown."""

    def __init__(self, prog: str, **_: Any) -> None:
        super().__init__(prog, width=110, max_help_position=28)

    def _get_help_string(self, action: Action) -> str:
        default = action.default
        hidden = default in (None, SUPPRESS, "", False) or isinstance(default, list | dict | Namespace)
        return (action.help or "") if hidden else f"{action.help} (default: {default})"


Main = Callable[[str, Sequence[str]], None]
"""What runs ``python -m name`` with arguments: a ``Command`` or a function."""


def run_stage(name: str, main: Main, others: Mapping[str, Main], arguments: Sequence[str] | None = None) -> None:
    """Run a stage, or the one of its other commands that the first argument names.

    Args:
        name: of the stage's module.
        main: the stage itself.
        others: its other commands by name.
        arguments: those of the command line by default.
    """
    given = _with_configs(name.rpartition(".")[2], sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in others:
        others[given[0]](f"{name} {given[0]}", given[1:])
    elif given and others and not given[0].startswith("-"):
        with user_errors():
            raise UserError(f"python -m {name}: " + no_such_command(given[0], others))
    else:
        main(name, given)


def usage(commands: Mapping[str, Main]) -> Main:
    """The stage itself, of a module that is nothing but commands: says which there are."""
    return lambda name, _: print(f"usage: python -m {name} {{{','.join(commands)}}} ...; --help after one says more")


def _with_configs(stage: str, arguments: Sequence[str]) -> list[str]:
    """Arguments with ``--config demo`` as the file of that name which comes with the package."""
    found = list(arguments)
    home = Path(__file__).parent
    for place, (flag, name) in enumerate(pairwise(arguments), start=1):
        if flag == "--config" and re.fullmatch(r"\w+", name) and not Path(name).exists():
            files = [folder / "configs" / stage / f"{name}.yaml" for folder in (home, home.parent)]  # wheel, checkout
            found[place] = next((str(file) for file in files if file.exists()), name)
    return found


def no_such_command(given: str, names: Iterable[str]) -> str:
    """What to say of a command that there is not."""
    names = list(names)
    near = difflib.get_close_matches(given, names, 1)
    meant = f"; did you mean {near[0]}? Choose" if near else "; choose"
    return f"{given!r} is no command{meant} from {', '.join(names)}"


def _as_said(error: str, options: Iterable[type]) -> str:
    """What the parser, or a value that does not like what it is given, says, in terms of options."""
    error = re.sub(r"^([a-z_.]+) (?=is )", r"--\1 ", error)
    if error == "'str' object does not support item assignment":  # jsonargparse's, where nargs are
        return "--config: a text where several values may stand, such as tasks: a; write a list, tasks: [a]"
    found = re.match(r'Parser key "([\w.]+)":\s*(?:Problem with given class_path .*?\b(\w+)\':)?\s*(.*)', error, re.S)
    if not found:
        return error
    name, chosen, reason = found.groups()
    if missing := re.match(r"Expected a dot import path string: (.*)", reason):
        kind = next(hint for each in options for own, hint in get_type_hints(each).items() if own == name)
        return f"--{name}: unknown {name} {missing[1]}; choose from {', '.join(_names_of(kind))}, or give a dotted path"
    if unknown := re.match(r"Option '(\w+)' is not accepted", reason):
        return f"--{name}.{unknown[1]} is no setting of {chosen}; --{name}.help {chosen} lists those that are"
    if required := re.match(r"the following arguments are required: (\w+)", reason):
        return f"--{name}.{required[1]} is missing"
    return f"--{name}: {reason}"


def _names_of(kind: type) -> list[str]:
    """The classes of a kind that can be chosen."""
    own: list[str] = [kind.__name__] if is_dataclass(kind) else []
    below: list[type] = kind.__subclasses__()
    return [*own, *(name for each in below for name in _names_of(each))]


def _fields(kind: type) -> tuple[Field[Any], ...]:
    return fields(kind)


def settings_of(options: Any) -> dict[str, Any]:
    """Options by name, groups taken apart: what a config file would give."""
    found: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        found |= settings_of(value) if field.metadata.get("group") else {field.name: value}
    return found


def by_path(path: str, option: str) -> Any:
    """What a dotted path such as ``my_module.MINE``, given to an option, names; None without a dot.

    Raises:
        UserError: if it cannot be imported.
    """
    home, dot, last = path.rpartition(".")
    try:
        return getattr(import_module(home), last) if dot else None
    except (ImportError, AttributeError) as error:
        raise UserError(f"{option} {path} cannot be imported ({error})") from None


def by_name(name: str, known: Mapping[str, Value], kind: type[Value], option: str) -> Value:
    """A value of a table by its name, or one of the user's own by its dotted path.

    Raises:
        UserError: if there is none.
    """
    if name in known:
        return known[name]
    found = by_path(name, option)
    if not isinstance(found, kind):
        a = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise UserError(
            f"{option}: unknown {kind.__name__.lower()} {name}; choose from {', '.join(known)}, or give the dotted "
            f"path of {a} {kind.__name__}"
        )
    return found


def _item_of(kind: Any) -> Any:
    """What a list field holds; None for other fields."""
    kinds = [kind, *get_args(kind)] if get_origin(kind) in (Union, UnionType) else [kind]
    return next((get_args(one)[0] for one in kinds if get_origin(one) is list), None)


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
    """Turn ``UserError`` into one line and exit code 2, Ctrl-C and a scheduler's SIGTERM into one line and exit
    codes 130 and 143."""
    quiet_libraries()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except (UserError, MemoryError, RuntimeError) as error:
        if not isinstance(error, UserError):
            if not _out_of_memory(error):
                raise
            error = UserError(f"out of memory ({first_line(error)}); lower --trees or --cache_gib")
        print("error: " + printable(" ".join(str(error).split())), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print("interrupted; run the same command again to resume", file=sys.stderr)
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
