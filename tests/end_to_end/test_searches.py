"""The searches of an evaluation: made here, by several workers, or given."""

from pathlib import Path
from typing import Any

import pytest

from cola_learn.files import read_json
from tests.end_to_end.conftest import EVALUATE, run


def rows(folder: Path) -> list[dict[str, Any]]:
    """Without what was measured."""
    found = read_json(folder / "report.json")["rows"]
    return [{name: value for name, value in row.items() if name != "cost"} for row in found]


def test_searches_of_workers_and_given_ones_are_the_same(finished: Path, tmp_path: Path) -> None:
    common = [*EVALUATE, "--controllers", finished / "controller", "--labels", finished / "labels"]
    expected = rows(finished / "evaluate")
    run("evaluate", *common, "--output", tmp_path / "workers", "--workers", "2")
    assert rows(tmp_path / "workers") == expected
    run("evaluate", *common, "--output", tmp_path / "given", "--searched", finished / "evaluate" / "search")
    assert rows(tmp_path / "given") == expected
    assert not (tmp_path / "given" / "search").exists()


def test_labels_of_others_are_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [*EVALUATE, "--controllers", finished / "controller", "--labels", finished / "labels"]
    for store, message in (
        (finished / "labels", "lacks 4 of 4 questions, such as arc_easy/validation/"),
        (Path("data/menu/held/arc_easy-validation").absolute(), "was made with fingerprint"),
        (finished / "controller", "--searched"),
    ):
        with pytest.raises(AssertionError):
            run("evaluate", *common, "--output", tmp_path / "refused", "--searched", store)
        assert message in capsys.readouterr().err
