"""A file of questions that changes under a result is noticed; so are training questions under another name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cola_learn import LabelStore, load_task
from cola_learn.label.parquet import read_questions, write_questions

Command = Callable[..., tuple[int, str]]
QUICK = ("--search.simulations", "4", "--neighbours", "0", "--verify", "off", "--tracking", "disabled")


def write(file: Path, start: int, count: int) -> Path:
    rows = [
        {"question": question.text, "choices": question.choices, "answer": question.choices[question.gold]}
        for question in load_task("arc_easy", "test")[start : start + count]
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("changed")


def test_1_label(command: Command, folder: Path) -> None:
    code, said = command(
        "cola_learn.label", "--tasks", write(folder / "mine.jsonl", 0, 6), "--output", folder / "labels", *QUICK
    )
    assert code == 0, said
    assert "first question as it was read: mine/file/1" in said
    assert "<- gold" in said
    labels = LabelStore.open(folder / "labels").read()
    assert {label.key: label.digest for label in labels} == {
        question.key: question.digest for question in load_task(str(folder / "mine.jsonl"))
    }


def test_2_more_rows_are_new_questions(command: Command, folder: Path) -> None:
    write(folder / "mine.jsonl", 0, 8)
    code, said = command("cola_learn.label", "--tasks", folder / "mine.jsonl", "--output", folder / "labels", *QUICK)
    assert code == 0, said
    assert "6 of 8 questions are done already" in said


def test_3_training_questions_under_another_name_are_not_held_out(command: Command, folder: Path) -> None:
    train = ("--model.width", "16", "--model.blocks", "1", "--model.heads", "1", "--trainer.max_epochs", "1")
    code, said = command(
        *("cola_learn.train", "--labels", folder / "labels", "--output", folder / "train", *train),
        *("--tracking", "disabled"),
    )
    assert code == 0, said
    code, said = command("cola_learn.export", "--checkpoint", folder / "train" / "best.ckpt", "--output", folder / "c")
    assert code == 0, said
    assert f"--labels {folder / 'labels'} --controllers {folder / 'c'}" in said
    write(folder / "other.jsonl", 0, 8)
    options = ("--controllers", folder / "c", "--labels", folder / "labels", "--output", folder / "evaluate")
    code, said = command("cola_learn.evaluate", *options, "--tasks", folder / "other.jsonl")
    assert code == 2
    assert "its questions are those that were labelled, under other names" in said


def test_4_changed_rows_are_not_labelled_into_the_same_store(command: Command, folder: Path) -> None:
    write(folder / "mine.jsonl", 100, 8)
    before = {file.name: file.read_bytes() for file in (folder / "labels").glob("*.parquet")}
    code, said = command("cola_learn.label", "--tasks", folder / "mine.jsonl", "--output", folder / "labels", *QUICK)
    assert code == 2, said
    assert "8 of its questions" in said
    assert "are no longer what they were when they were labelled" in said
    assert {file.name: file.read_bytes() for file in (folder / "labels").glob("*.parquet")} == before


def test_5_labels_do_not_need_their_file(command: Command, folder: Path) -> None:
    (folder / "mine.jsonl").unlink()
    code, said = command("cola_learn.label", "verify", folder / "labels", "--limit", "2")
    assert code == 0, said
    assert "0 rewards differ" in said
    tiny = ("--model.width", "16", "--model.blocks", "1", "--model.heads", "1", "--trainer.max_epochs", "1")
    code, said = command(
        *("cola_learn.train", "--labels", folder / "labels", "--output", folder / "t", *tiny, "--tracking", "disabled")
    )
    assert code == 0, said


def test_6_kept_questions_that_were_changed_are_refused(command: Command, folder: Path) -> None:
    kept = read_questions(folder / "labels" / "questions.parquet")
    write_questions(
        folder / "labels" / "questions.parquet", [replace(question, gold=0, text="x") for question in kept.values()]
    )
    code, said = command("cola_learn.label", "verify", folder / "labels", "--limit", "2")
    assert code == 2, said
    assert "are no longer what they were when they were labelled" in said
