"""The public names, and that no command's help loads a model library."""

import subprocess
import sys
from importlib import import_module

import pytest

import cola_learn
from cola_learn.command import Command

HEAVY = ("torch", "transformers", "datasets", "wandb", "sklearn", "matplotlib")
COMMANDS = (
    "assets",
    "label",
    "label inspect",
    "evaluate",
    "evaluate compare",
    "infer",
    "export",
    "train",
)


@pytest.mark.parametrize("name", cola_learn.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(cola_learn, name).__doc__


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str) -> None:
    stage, *rest = command.split()
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', *{[*rest, '--help']!r}]\n"
        f"try: runpy.run_module('cola_learn.{stage}', run_name='__main__')\n"
        "except SystemExit: pass\n"
        f"sys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: " in done.stdout


@pytest.mark.parametrize("stage", ["label", "evaluate", "infer", "train"])
def test_what_commands_run_is_there(stage: str) -> None:
    main = import_module(f"cola_learn.{stage}.__main__")
    tables = [value for value in vars(main).values() if isinstance(value, dict)]
    found = [*vars(main).values(), *(one for table in tables for one in table.values())]
    for command in (one for one in found if isinstance(one, Command) and isinstance(one.run, str)):
        module, _, function = command.run.partition(":")
        assert callable(getattr(import_module(module), function))
