"""Evaluations side by side, against counting by hand."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from cola_learn.evaluate.per_question import write_answers

Command = Callable[..., tuple[int, str]]
BASE = [1, 0, 0, 1, 0, 1, 0, 0]
SHORT = [1, 1, 0, 1, 1, 0, 1, 1]


def evaluation(folder: Path, policies: dict[str, tuple[list[int], float]], digest: str = "d", first: int = 0) -> Path:
    folder.mkdir()
    write_answers(
        folder,
        [
            {
                "policy": name,
                "oracle": name.endswith("oracle"),
                "question": f"t/s/{first + row}",
                "digest": digest,
                "reward": float(reward),
                "depth": depth,
            }
            for name, (rewards, depth) in policies.items()
            for row, reward in reversed(list(enumerate(rewards)))
        ],
    )
    return folder


def test_differences_are_paired(command: Command, tmp_path: Path) -> None:
    one = evaluation(
        tmp_path / "one", {"base": (BASE, 30.0), "controller": (SHORT, 24.5), "search_oracle": (BASE, 9.0)}
    )
    other = evaluation(tmp_path / "other", {"base": (BASE, 30.0), "controller": (BASE[::-1], 20.0)})
    output = tmp_path / "compared.json"
    code, said = command("cola_learn.evaluate", "compare", one, other, "--output", output)
    assert code == 0, said
    found = json.loads(output.read_text())
    assert found["n"] == 8
    rows = [(row["policy"], row["accuracy"], row["depth"]) for row in found["rows"]]
    assert rows == [("base", 3 / 8, 30.0), ("controller", 6 / 8, 24.5), ("controller", 3 / 8, 20.0)]
    assert [row["to_first"] and row["to_first"]["mean"] for row in found["rows"]] == [None, 3 / 8, 0.0]
    gained, lost = 4, 1  # of five that differ
    exact = 2 * sum(math.comb(5, count) for count in range(gained, 6)) / 2**5
    assert found["rows"][1]["p_first"] == pytest.approx(min(1.0, 2 * exact))  # Holm, of two
    assert lost == sum(one > other for one, other in zip(BASE, SHORT, strict=True))
    code, said = command("cola_learn.evaluate", "compare", one, other, "--policies", "controller")
    assert code == 0, said


def test_what_cannot_be_compared_is_refused(command: Command, tmp_path: Path) -> None:
    one = evaluation(tmp_path / "one", {"base": (BASE, 30.0)})
    more = evaluation(tmp_path / "more", {"base": (BASE, 30.0)}, first=5)
    edited = evaluation(tmp_path / "edited", {"base": (BASE, 30.0)}, digest="e")
    for other, message in (
        (more, "is of 8 questions and"),
        (edited, "0 are the same. Evaluate both with the same task, split, limit and seed"),
        (tmp_path, "is no evaluation with a questions.parquet"),
    ):
        code, said = command("cola_learn.evaluate", "compare", one, other)
        assert code == 2
        assert message in said, said
        assert said.count("\n") == 1, said
    code, said = command("cola_learn.evaluate", "compare", one, "--policies", "mine")
    assert (code, "has no policy mine; choose --policies from base" in said) == (2, True)
