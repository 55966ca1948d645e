"""Prompts with responses through all stages, as a user runs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cola_learn import apply_chain, assets

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
    assert "python -m cola_learn.train --config texts --labels" in said
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
    code, said = command(
        *("cola_learn.evaluate", "--labels", tmp_path / "train", "--controllers", tmp_path / "c", "--limit", "4"),
        *("--tasks", "text_python:validation", "--search.simulations", "4", "--cost_questions", "1"),
        *("--output", tmp_path / "live"),
    )
    assert code == 0, said
    live, stored = (answers(tmp_path / name) for name in ("live", "likelihood"))
    same = {key: row for key, row in live.items() if key in stored}
    assert {policy for policy, _ in same} >= {"base", "controller"}
    assert len(same) >= 8
    for key, row in same.items():  # run here or read from the labels, chains are the same and so is what they bring
        assert row["chain"] == stored[key]["chain"]
        assert row["reward"] == pytest.approx(stored[key]["reward"], rel=1e-6)
    report = json.loads((tmp_path / "live" / "report.json").read_text())
    rows_of = {row["policy"]: row for row in report["rows"]}
    assert report["setting"]["measure"] == "likelihood"
    assert rows_of["base"]["loss"] == rows_of["base"]["worst"] == 0.0
    assert rows_of["static"]["cost"]["flops"] <= 1.0  # the base chain that it is compared with is not its cost
    assert rows_of["search_oracle"]["loss"] is not None


def answers(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of an evaluation's questions, by policy and question."""
    rows = pyarrow.parquet.read_table(folder / "questions.parquet").to_pylist()
    return {(row["policy"], row["question"]): row for row in rows}


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


def test_conversations_are_written_in_the_models_template(command: Command, tmp_path: Path) -> None:
    """The prompt is what the tokenizer's template makes of all turns but the last; the reward is of the last."""
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Which metal rusts?"},
        {"role": "assistant", "content": "Iron rusts when it is wet."},
    ]
    (tmp_path / "talk.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    (tmp_path / "menu.txt").write_text("0-16 18-29\n")
    arguments = ["--config", "menu", "--search.file", tmp_path / "menu.txt", "--dtype", "float32"]
    arguments += ["--tasks", tmp_path / "talk.jsonl", "--output", tmp_path / "labels"]
    code, said = command("cola_learn.label", *arguments)
    assert code == 0, said
    tokenizer = AutoTokenizer.from_pretrained(assets.model_folder())
    prompt = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
    [question] = pyarrow.parquet.read_table(tmp_path / "labels" / "questions.parquet").to_pylist()
    assert (question["text"], question["choices"]) == (prompt, ["Iron rusts when it is wet."])
    [file] = (tmp_path / "labels").glob("scores-*.parquet")
    margins = [row["margin"] for row in pyarrow.parquet.read_table(file).to_pylist()]
    model = AutoModelForCausalLM.from_pretrained(assets.model_folder(), dtype=torch.float32)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = torch.tensor([tokenizer(prompt + question["choices"][0], add_special_tokens=False)["input_ids"]])
    for chain, margin in zip(("0-29", "0-16 18-29"), margins, strict=True):
        with torch.no_grad(), apply_chain(model, chain):
            logprobs = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
        expected = logprobs.gather(-1, ids[0, start:, None]).mean()
        assert margin == pytest.approx(float(expected), abs=1e-3)
    code, said = command("cola_learn.label", *arguments)
    assert code == 0, said
    assert "1 of 1 questions are done already" in said
    code, said = command(
        *("cola_learn.infer", "--questions", tmp_path / "talk.jsonl", "--output", tmp_path / "answers.jsonl"),
        *("--controller", "checkpoints/texts"),
    )
    assert code == 2
    assert "holds conversations" in said
