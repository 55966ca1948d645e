"""The command table: one program with the stages as its commands."""

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from cola_learn.__main__ import STAGES, main
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


def test_labels_that_are_not_there_are_named_before_lightning_is_imported(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"labels: {tmp_path / 'nothing'}\n")
    ways = (
        ["--labels", f"{tmp_path}/nothing"],
        [f"--labels={tmp_path}/nothing"],
        ["--config", f"{tmp_path}/mine.yaml"],
    )
    program = "import sys; from cola_learn.train.__main__ import main; main(sys.argv[1:])"
    for way in ways:
        asked = [sys.executable, "-X", "importtime", "-c", program, *way]
        done = subprocess.run(asked, capture_output=True, text=True)
        assert done.returncode == 2
        assert "nothing is not a label store (no manifest.json)" in done.stderr
        assert not re.search(r"\| +(lightning|torch)\n", done.stderr)


def test_help_shows_what_examples_use() -> None:
    _, shown, _ = output_of("cola_learn.train", "--help")
    for option in ("--model.objective", "--model.width", "--data.trials", "--trainer.max_epochs", "--labels"):
        assert option in shown
    code, everything, _ = output_of("cola_learn.label", "--help.all")
    assert code == 0
    short = output_of("cola_learn.label", "--help")[1]
    assert "--prompt.ask" in everything
    assert "--prompt.ask" not in short
    assert short.count("\n") <= 105


def test_waiting_threads_sleep_unless_asked_otherwise() -> None:
    program = "import os, cola_learn.command; print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        environment |= {"OMP_WAIT_POLICY": given} if given else {}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert done.stdout.strip() == expected
