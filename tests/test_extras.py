"""What is not installed is said in one line, with what installs it."""

from importlib.util import find_spec
from typing import Any

import pytest

from cola_learn import plots
from cola_learn.errors import UserError
from cola_learn.label.records import Label
from cola_learn.label.single_edits import heat_map
from cola_learn.rewards import grading


def without(name: str) -> Any:
    return lambda other: None if other == name else find_spec(other)


def test_plots(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plots._say_that_none_is_drawn.cache_clear()
    monkeypatch.setattr(plots, "find_spec", without("matplotlib"))
    labels: list[Label] = []
    assert [heat_map(labels, 4), heat_map(labels, 4)] == ["", ""]
    assert capsys.readouterr().err.count("pip install 'cola-learn[plots]'") == 1


def test_mathematics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "find_spec", without("math_verify"))
    grader = grading.Grader()
    assert grader.grade("\\boxed{12}", "12").right  # needs no mathematics
    with pytest.raises(UserError, match=r"pip install 'cola-learn\[math\]'"):
        grader.grade("\\boxed{x + 1}", "1 + x")
