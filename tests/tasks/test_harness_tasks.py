"""Tasks of lm-evaluation-harness as tasks of ours, against the harness's own requests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from cola_learn import load_task
from cola_learn.errors import UserError
from cola_learn.tasks.questions import as_sample

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {file}}}}}
validation_split: validation
output_type: {kind}
description: "Answer these.\\n\\n"
doc_to_text: "{{{{question}}}}\\nA:"
doc_to_choice: {choice}
doc_to_target: {target}
{more}
"""
ROWS = [
    {"question": "Which rusts?", "options": ["iron", "glass", "gold"], "answer": 0, "name": "iron"},
    {"question": "2 + 2?", "options": ["five", "four"], "answer": 1, "name": "four"},
]
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a task file; returns how ``--task`` names it."""

    def write(name: str = "mine", kind: str = "multiple_choice", choice: str = "options", **fields: Any) -> str:
        rows = tmp_path / f"{name}.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in fields.pop("rows", ROWS)))
        target, more = fields.pop("target", "answer"), fields.pop("more", "")
        text = TASK.format(name=name, file=rows, kind=kind, choice=choice, target=target, more=more)
        (tmp_path / f"{name}.yaml").write_text(text)
        return f"lm_eval:{tmp_path / name}.yaml"

    return write


@pytest.mark.parametrize("target", ["answer", "name", '"{{answer}}"'])
def test_requests_are_those_of_the_harness(write: Write, target: str) -> None:
    named = write(target=target)
    questions = load_task(named, "validation")
    [task] = TaskManager(include_defaults=False).load([named.removeprefix("lm_eval:")])["tasks"].values()
    task.build_all_requests(limit=None, rank=0, world_size=1)
    theirs = [request.args for request in task.instances]
    samples = [as_sample(question) for question in questions]
    ours = [pair for sample in samples for pair in zip(sample.contexts, sample.continuations, strict=True)]
    assert ours == theirs
    assert [question.choices[question.gold] for question in questions] == ["iron", "four"]
    assert [question.key for question in questions] == ["lm_eval-mine/validation/0", "lm_eval-mine/validation/1"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "generate_until"}, "is of type generate_until; only multiple_choice"),
        ({"more": 'target_delimiter: ""'}, "puts '' before its options; only a space"),
        ({"target": "[0, 1]"}, "row 0 has several right answers"),
        ({"target": "question"}, "row 0 has no answer among its 3 options"),
        ({"rows": [ROWS[0], {**ROWS[1], "answer": 7}]}, "row 1 has no answer among its 2 options"),
    ],
)
def test_what_is_no_plain_multiple_choice_is_refused(write: Write, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_task(write(**fields), "validation")


def test_what_is_not_there_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split test of .* is not known; choose validation"):
        load_task(write(), "test")
    with pytest.raises(UserError, match="names a file that is not there"):
        load_task(f"lm_eval:{tmp_path}/other.yaml", "validation")


@pytest.mark.slow  # the harness takes a while to list its tasks
def test_names_of_the_harness_that_are_no_task_are_refused() -> None:
    with pytest.raises(UserError, match="is no task of lm-evaluation-harness"):
        load_task("lm_eval:no_such_task", "validation")
    with pytest.raises(UserError, match="is a group of tasks"):
        load_task("lm_eval:pythia", "validation")
