"""Prompts with given responses: the embedded ones."""

import pytest

from cola_learn.errors import UserError
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.texts import TEXTS


@pytest.mark.parametrize("task", TEXTS)
def test_every_kind_has_prompts_with_responses_in_two_splits_that_share_nothing(task: str) -> None:
    train, held = load_task(task, "train"), load_task(task, "validation")
    assert len(train) >= 60
    assert len(held) >= 20
    assert not {one.text for one in train} & {one.text for one in held}
    for one in (*train, *held):
        assert one.kind == "response"
        assert one.text.strip()
        assert one.choices[0].strip()


def test_a_problem_is_held_out_in_all_languages() -> None:
    rust, go = ({one.id for one in load_task(task, "validation")} for task in ("text_rust", "text_go"))
    assert rust == go
    assert not rust & {one.id for one in load_task("text_ruby", "train")}


def test_splits_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match="split test of text_rust is not embedded; choose train, validation"):
        load_task("text_rust", "test")
