"""Multiple-choice tasks of lm-evaluation-harness: prompt, options and gold answer as the harness's own YAML says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cola_learn.console import console
from cola_learn.errors import UserError, first_line
from cola_learn.tasks.questions import Question

LM_EVAL = "lm_eval:"
_DOCS = {"train": "training_docs", "validation": "validation_docs", "test": "test_docs"}


def harness_questions(task: str, split: str) -> list[Question]:
    """The questions of a split of a task of the harness, zero-shot.

    Args:
        task: ``lm_eval:NAME``, or ``lm_eval:FILE.yaml`` for a task file. As in the harness itself, Python functions
            that a task file names are run.
        split: ``train``, ``validation`` or ``test``.

    Raises:
        UserError: if there is no such task or split, it cannot be loaded, or it is no plain multiple choice.
    """
    found = _task(task)
    if found.OUTPUT_TYPE != "multiple_choice":
        raise UserError(f"task {task} is of type {found.OUTPUT_TYPE}; only multiple_choice tasks can be used")
    have = [name for name, docs in _DOCS.items() if getattr(found, f"has_{docs}")()]
    if split not in have:
        raise UserError(f"split {split} of {task} is not known; choose {', '.join(have)}")
    try:
        docs = list(getattr(found, _DOCS[split])())
    except Exception as error:
        raise UserError(f"task {task} split {split} could not be loaded: {first_line(error)}") from None
    return list(_questions(found, docs, split, task))


def _task(task: str) -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise UserError(f"task {task} needs lm-evaluation-harness; pip install 'cola-learn[harness]'") from None
    name = task.removeprefix(LM_EVAL)
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UserError(f"task {task} names a file that is not there; give lm_eval:NAME or lm_eval:FILE.yaml")
        manager = TaskManager(include_defaults=False)
    else:
        with console.status("listing the tasks of lm-evaluation-harness ..."):
            manager = TaskManager()
        if name in (*manager.all_groups, *manager.all_tags):
            raise UserError(f"task {task} is a group of tasks; choose one of them (lm-eval ls tasks lists all)")
        if name not in manager.all_subtasks:
            raise UserError(f"task {task} is no task of lm-evaluation-harness; lm-eval ls tasks lists all")
    try:
        [found] = manager.load([name])["tasks"].values()
    except Exception as error:
        raise UserError(f"task {task} could not be loaded: {first_line(error)}") from None
    return found


def _questions(task: Any, docs: list[Any], split: str, said: str) -> Iterator[Question]:
    delimiter = task.config.target_delimiter
    name = "lm_eval-" + re.sub(r"[^\w.-]", "-", task.task_name)
    ids = [str(doc.get("id", "")) for doc in docs]
    if "" in ids or len(set(ids)) < len(ids):
        ids = [str(index) for index in range(len(docs))]
    for own, doc in zip(ids, docs, strict=True):
        text, gold = task.fewshot_context(doc, 0), task.doc_to_target(doc)
        if not isinstance(text, str) or isinstance(gold, list):
            kind = "several right answers" if isinstance(text, str) else "options in the place of contexts"
            raise UserError(f"task {said}: row {own} has {kind}, which is not supported")
        texts = [f"{delimiter}{choice}" for choice in task.doc_to_choice(doc)]
        if not all(choice.startswith(" ") for choice in texts):
            raise UserError(f"task {said} puts {delimiter!r} before its options; only a space is supported")
        choices = tuple(choice[1:] for choice in texts)
        if isinstance(gold, str):
            gold = task.doc_to_choice(doc).index(gold) if gold in task.doc_to_choice(doc) else -1
        if not 0 <= gold < len(choices):
            raise UserError(f"task {said}: row {own} has no answer among its {len(choices)} options")
        yield Question(name, split, own, text, choices, gold, prefix="", suffix="")
