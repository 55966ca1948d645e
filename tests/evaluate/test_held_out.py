"""Which held-out questions are run, and how they are scored."""

import json
from pathlib import Path

import pytest

from cola_learn.errors import UserError
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.inputs import HeldOut, held_out
from cola_learn.label.score_matrix import open_stores

SEARCHED = Path("data/labels/arc_challenge-test")  # scored with acc
MENU = Path("data/menu/held/openbookqa-validation")  # with pmi, which OLMES recommends


def found(labels: Path, *tasks: str | Path, limit: int | None = 5) -> HeldOut:
    return held_out(EvaluateOptions(labels, tasks=list(map(str, tasks)), limit=limit), open_stores(labels))


def test_by_default_the_labels_task_is_held_out() -> None:
    held = found(SEARCHED)
    assert {question.key.rpartition("/")[0] for question in held.questions} == {"arc_challenge/validation"}
    assert (len(held.questions), held.described) == (5, "arc_challenge validation")


def test_tasks_without_labels_are_named_as_such_and_scored_as_the_labels_were_asked_to_be() -> None:
    held = found(MENU, "openbookqa:test", "arc_easy:validation", "sciq:validation[75%:]")
    assert len(held.questions) == 15
    assert held.described == "openbookqa test, arc_easy validation (no labels), sciq validation[75%:] (no labels)"
    metrics = [held.scoring(held.questions[place]).metric for place in (0, 5, 10)]
    assert metrics == ["pmi", "acc_norm", "acc_norm"]  # recommended for each
    others = found(SEARCHED, "openbookqa:test")
    assert others.scoring(others.questions[0]).metric == "acc"  # asked for by the user who labelled


def test_what_cannot_be_held_out_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "open.jsonl"
    file.write_text("".join(json.dumps({"question": f"{n} plus 1?", "answer": n + 1}) + "\n" for n in range(4)))
    for labels, tasks, message in (
        (MENU, ["openbookqa:validation"], "--tasks openbookqa:validation: .* such as openbookqa/validation/"),
        (MENU, ["arc_easy:dev[", "x"], "names no split; give task:split"),
        (MENU, ["arc_easy"], "task arc_easy names no split; give task:split"),
        (MENU, ["nothing:test"], "task nothing is not known"),
        (
            MENU,
            ["sciq:validation[:50%]", "sciq:validation[50%:]"],
            "has the name of another, sciq validation; name each once",
        ),
        (
            MENU,
            ["dart_math_1:test"],
            "--tasks dart_math_1 has open questions, and --labels were made with the reward choices",
        ),
        (MENU, [tmp_path / "none.jsonl"], "none.jsonl is not there"),
    ):
        with pytest.raises(UserError, match=message):
            found(labels, *tasks)
    with pytest.raises(UserError, match="--limit 1 leaves one question"):
        found(MENU, "arc_easy:validation", limit=1)
    with pytest.raises(ValueError, match="part blind is of the questions of --held; give --held"):
        EvaluateOptions(MENU, part="blind")
    with pytest.raises(ValueError, match="limit is for questions that are run; --held has scores of its own"):
        EvaluateOptions(MENU, held=MENU, limit=3)
