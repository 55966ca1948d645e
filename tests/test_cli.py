"""The command table: one program with the stages as its commands."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from cola_learn.cli import STAGES, main
from cola_learn.command import user_errors


def output_of(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_it_is_installed() -> None:
    [script] = entry_points(group="console_scripts", name="cola-learn")
    assert script.load() is main


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_it_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in STAGES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labl"], "'labl' is no command; did you mean label? Choose from assets, label, "),
        (["label", "inspct"], "'inspct' is no command; did you mean inspect? Choose from inspect, merge, "),
        (["evaluate", "compar"], "did you mean compare?"),
        (["train", "best.ckpt"], "'best.ckpt' is no command; choose from prior"),
    ],
)
def test_a_misspelt_command_names_those_that_there_are(arguments: list[str], message: str) -> None:
    code, _, said = output_of("cola_learn", *arguments)
    assert code == 2
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", ["label", "label inspect", "export", "infer"])
def test_both_ways_to_call_a_stage_are_one(command: str) -> None:
    stage, *more = command.split()
    assert output_of("cola_learn", stage, *more, "--help") == output_of(f"cola_learn.{stage}", *more, "--help")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory\nat ...")])
def test_memory_at_an_end_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """A MemoryError says nothing of its own."""
    with pytest.raises(SystemExit, match="2"), user_errors():
        raise error
    assert capsys.readouterr().err.startswith("error: out of memory (")
