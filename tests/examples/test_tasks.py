"""Tasks of one's own, named by their dotted paths."""

import re
from pathlib import Path

import pytest

from cola_learn import load_task
from cola_learn.errors import UserError
from examples.fail_rate import Pool, read_by_fail_rate
from tests.tasks.test_hub import local

SUMS = [f"examples.sums.{kind}_{level}" for kind in ("chain_sum", "basic_arithmetic") for level in range(1, 6)]


@pytest.mark.parametrize("task", SUMS)
def test_generated_tasks_have_right_answers_and_splits_apart(task: str) -> None:
    splits = [load_task(task, split) for split in ("train", "validation", "test")]
    texts = [{question.text for question in split} for split in splits]
    assert sum(map(len, texts)) == len(set.union(*texts))
    for question in splits[2][:200]:
        expression = re.search(r"[-(\d][-+*/ ().\d]*", question.text)
        assert expression
        reckoned = eval(expression[0].rstrip(". ="), {"__builtins__": {}})
        assert float(question.choices[0]) == pytest.approx(float(reckoned))


@pytest.fixture
def pools(tmp_path: Path) -> list[Pool]:
    """Twenty questions of each pool, three responses each; the fail rate grows with the number."""
    found = []
    for name in ("MATH/train/algebra", "grade-school-math"):
        ids = [f"{name}/{number}.json" for number in range(20)]
        responses = [
            {"query_id": own, "query": f"Q {own}", "gt_ans": str(number), "response": f"R{turn}", "domain": "x"}
            for number, own in enumerate(ids)
            for turn in range(3)
        ]
        rates = [{"query_id": own, "pass_rate": 1 - number / 20, "tot_n_samples": 9} for number, own in enumerate(ids)]
        folder = tmp_path / name.replace("/", "-")
        found.append(Pool(local(folder / "pool", responses), local(folder / "info", rates)))
    return found


def test_fail_rates_rank_both_pools_and_take_a_question_once(pools: list[Pool]) -> None:
    seen: list[str] = []
    for part in range(1, 6):
        splits = [read_by_fail_rate(part, split, pools) for split in ("train", "validation", "test")]
        assert [len(split) for split in splits] == [5, 1, 2]
        questions = [question for split in splits for question in split]
        assert {int(question.choices[0]) // 4 for question in questions} == {part - 1}
        seen += [question.id for question in questions]
    assert len(seen) == len(set(seen)) == 40
    assert "MATH/train/algebra/3.json" in seen


def test_wrong_splits_of_fail_rates_are_named(pools: list[Pool]) -> None:
    with pytest.raises(
        UserError, match=r"split dev of examples\.fail_rate\.dart_math_1 is not known; choose train, validation, test"
    ):
        read_by_fail_rate(1, "dev", pools)
