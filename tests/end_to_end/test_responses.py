"""Prompts with responses through all stages, as a user runs them."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest

Command = Callable[..., tuple[int, str]]
TASKS = ("text_gsm8k", "text_python")


def test_texts_through_all_stages(command: Command, tmp_path: Path) -> None:
    menu = tmp_path / "menu.txt"
    menu.write_text("0-24 26-29\n0-4 6-29\n0-13 15-24 26-29\n")
    for split, count in (("train", "5"), ("validation", "4")):
        code, said = command(
            *("cola_learn.label", "--config", "menu", "--search.file", menu, "--limit", count),
            *("--tasks", *(f"{task}:{split}" for task in TASKS), "--output", tmp_path / split),
        )
        assert code == 0, said
    assert "(2 of 2, likelihood)" in said
    assert "prompts with a shorter good chain" in said
    [file] = (tmp_path / "train" / "text_gsm8k-train").glob("scores-*.parquet")
    rows = pyarrow.parquet.read_table(file).to_pylist()
    assert len(rows) == 5 * 4
    assert all(len(row["scores"]) == 4 and row["reward"] < 1.2 for row in rows)
    assert [row["reward"] for row in rows[::4]] == [1.0] * 5
    code, said = command("cola_learn.label", "verify", tmp_path / "train" / "text_gsm8k-train", "--chains", "all")
    assert code == 0, said
    assert "20 chains of 5 questions re-verified in isolation: 0 rewards differ" in said
    train = ("--labels", tmp_path / "train", "--output", tmp_path / "fit", "--trainer.max_epochs", "1")
    code, said = command("cola_learn.train", "--config", "texts", *train)
    assert code == 0, said
    code, said = command(
        "cola_learn.export", "--checkpoint", tmp_path / "fit" / "best.ckpt", "--output", tmp_path / "c"
    )
    assert code == 0, said
    asked = ("--labels", tmp_path / "train", "--held", tmp_path / "validation", "--controllers", tmp_path / "c")
    reports = {}
    for measure in ("likelihood", "fidelity"):
        more = ("--depths", "0.97", "--measure", measure, "--output", tmp_path / measure)
        code, said = command("cola_learn.evaluate", *asked, *more)
        assert code == 0, said
        assert "| saved, % |" in (tmp_path / measure / "report.md").read_text()
        reports[measure] = json.loads((tmp_path / measure / "report.json").read_text())
    for measure, report in reports.items():
        assert report["setting"]["measure"] == measure
        rows_of = {row["policy"]: row for row in report["rows"]}
        assert rows_of["base"]["accuracy"] == 1.0
        assert rows_of["base"]["loss"] == 0.0
        assert rows_of["static_front"]["saved"]["mean"] == pytest.approx(0.0)
        assert rows_of["ridge"]["depth"] <= 30


def test_a_search_of_a_prompt_with_a_response(command: Command, tmp_path: Path) -> None:
    """Tree search has no luck control there, and goes for what is good: within a tolerance as base."""
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "One, two, three,", "response": "four, five, six, seven, eight, nine, ten."}\n')
    code, said = command(
        *("cola_learn.label", "--tasks", file, "--search.simulations", "12", "--output", tmp_path / "labels"),
        *("--space.operations", "skip", "--space.max_block", "1"),
    )
    assert code == 0, said
    assert "mine.jsonl: read as prompts with responses" in said
    assert "luck" not in said.split("questions")[-1]
    code, said = command("cola_learn.label", "--tasks", file, "--reward", "choices", "--output", tmp_path / "other")
    assert code == 2
    assert "--reward choices is not for prompts with responses" in said
