"""The registry's tasks from the hub: tiny local copies with the columns that each dataset has there, read by the same code.

The columns are those of the datasets' cards and of lm-evaluation-harness's task files (0.4.13). Nothing here asks a network.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from cola_learn.errors import UserError
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.registry import BENCHMARKS, MATH_SUBJECTS

ARC = {
    "id": "Mercury_1",
    "question": "Q?",
    "choices": {"text": ["a", "b", "c"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}
MATH = {"problem": "What is 1+1?", "level": "Level 2", "type": "Algebra", "solution": "It is $\\boxed{2}$."}
ROWS: dict[str, tuple[Mapping[str, Any], str, tuple[str, ...], int]] = {
    "arc_easy": (ARC, "Q?", ("a", "b", "c"), 1),
    "arc_challenge": (
        {**ARC, "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
        "Q?",
        ("a", "b"),
        1,
    ),
    "commonsense_qa": ({**ARC, "question_concept": "x"}, "Q?", ("a", "b", "c"), 1),
    "openbookqa": (
        {"id": "7-1", "question_stem": "Q", **{k: ARC[k] for k in ("choices", "answerKey")}},
        "Q",
        ("a", "b", "c"),
        1,
    ),
    "piqa": ({"goal": "G", "sol1": "a", "sol2": "b", "label": 1}, "G", ("a", "b"), 1),
    "social_iqa": (
        {"context": "C.", "question": "Q?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "3"},
        "C. Q?",
        ("a", "b", "c"),
        2,
    ),
    "hellaswag": (
        {"ind": 1, "activity_label": "Roof", "ctx_a": "A man sits.", "ctx_b": "he", "ctx": "A man sits. he"}
        | {"endings": ["a", "b [title] c"], "source_id": "x", "split": "val", "split_type": "indomain", "label": "1"},
        "Roof: A man sits. He",
        ("a", "b. c"),
        1,
    ),
    "winogrande": (
        {"sentence": "S so _ did.", "option1": "a", "option2": "b", "answer": "2"},
        "S so _ did.",
        ("a", "b"),
        1,
    ),
    "sciq": (
        {
            "question": "Q?",
            "distractor3": "c",
            "distractor1": "a",
            "distractor2": "b",
            "correct_answer": "d",
            "support": "S",
        },
        "Q?",
        ("a", "b", "c", "d"),
        3,
    ),
    "boolq": ({"question": "is it", "answer": True, "passage": "P."}, "P.\nQuestion: is it?", ("no", "yes"), 1),
    "mmlu": ({"question": " Q? ", "subject": "law", "choices": ["a", "b", "c", "d"], "answer": 2}, "Q?", (*"abcd",), 2),
    "gsm8k": ({"question": "Q?", "answer": "5+5=<<5+5=10>>10\n#### 1,010"}, "Q?", ("1,010",), 0),
    "math_500": (
        {**MATH, "level": 2, "subject": "Algebra", "answer": "2", "unique_id": "test/algebra/1.json"},
        "What is 1+1?",
        ("2",),
        0,
    ),
    "dart_math_2": (MATH, "What is 1+1?", ("2",), 0),
}


def local(folder: Path, rows: list[Mapping[str, Any]], split: str = "train") -> str:
    """A dataset in a folder, laid out as the hub serves Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list([dict(row) for row in rows]).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("task", ROWS)
def test_rows_of_the_hub(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, text, choices, gold = ROWS[task]
    benchmark = BENCHMARKS[task]
    path = local(tmp_path / "data", [row])
    hub = replace(benchmark.hub, path=path, configurations=(None,))
    monkeypatch.setitem(BENCHMARKS, task, replace(benchmark, hub=hub, without=None))
    [question] = load_task(task, "train", source="hub")
    shown = question.choices[:1] if question.open else question.choices
    assert (question.text, shown, question.gold) == (text, choices, gold)
    assert question.split == "train"


def test_every_registered_task_has_a_row() -> None:
    same = {f"dart_math_{level}" for level in range(1, 6)}
    assert set(ROWS) | same == set(BENCHMARKS)
    assert BENCHMARKS["dart_math_1"].hub.configurations == MATH_SUBJECTS


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("piqa", {"label": -1}),
        ("commonsense_qa", {"answerKey": ""}),
        ("hellaswag", {"label": ""}),
        ("winogrande", {"answer": ""}),
    ],
)
def test_splits_without_answers_are_refused(
    task: str, fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local(tmp_path / "data", [{**ROWS[task][0], **fields}], "test")
    hub = replace(BENCHMARKS[task].hub, path=path, configurations=(None,))
    monkeypatch.setitem(BENCHMARKS, task, replace(BENCHMARKS[task], hub=hub))
    with pytest.raises(UserError, match=f"split test of {task}: row .* has no answer.*choose another"):
        load_task(task, "test", source="hub")


def test_a_dataset_that_lost_a_column_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = replace(BENCHMARKS["piqa"].hub, path=local(tmp_path / "data", [{"goal": "G", "label": 0}]))
    monkeypatch.setitem(BENCHMARKS, "piqa", replace(BENCHMARKS["piqa"], hub=hub))
    with pytest.raises(UserError, match="has no column 'sol1' any more, which piqa is read from"):
        load_task("piqa", "train", source="hub")


TURNS = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Ah."}]
TEXTS: dict[str, tuple[Mapping[str, Any], Layout, tuple[str, str, str, str]]] = {
    "hub:tatsu-lab/alpaca": (
        {"instruction": "Do.", "input": "In.", "output": "Out.", "text": "Below is ..."},
        Layout(),
        ("### Instruction:\n", "Do.\n\nIn.", "\n\n### Response:\n", "Out."),
    ),
    "hub:databricks/databricks-dolly-15k": (
        {"instruction": "Do.", "context": "", "response": "Out.", "category": "closed_qa"},
        Layout(),
        ("### Instruction:\n", "Do.", "\n\n### Response:\n", "Out."),
    ),
    "hub:HuggingFaceH4/no_robots": (
        {"prompt": "Hm?", "prompt_id": "f00d", "messages": TURNS, "category": "Chat"},
        Layout(),
        ("", json.dumps(TURNS[:1]), "", "Ah."),
    ),
    "hub:openai/gsm8k": (
        {"question": "Q?", "answer": "5+5=<<5+5=10>>10\n#### 10"},
        Layout("question=question,response=answer"),
        ("", "Q?", "\n", "5+5=<<5+5=10>>10\n#### 10"),
    ),
}


@pytest.mark.parametrize("task", TEXTS)
def test_instructions_of_the_hub(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets of instructions, conversations and worked solutions, by the columns that they have there."""
    row, layout, expected = TEXTS[task]
    local(tmp_path / task.removeprefix("hub:"), [row])
    monkeypatch.chdir(tmp_path)
    [question] = load_task(task, "train", layout=layout)
    assert (question.prefix, question.text, question.suffix, question.choices[0]) == expected
    assert question.kind == "response"
