import json
from pathlib import Path

import pytest

from cola_learn.errors import UserError
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import as_sample
from cola_learn.tasks.registry import BENCHMARKS

# Sizes that the benchmarks' own papers and cards give.
SIZES = {
    ("arc_easy", "test"): 2376,
    ("arc_easy", "validation"): 570,
    ("arc_challenge", "test"): 1172,
    ("arc_challenge", "validation"): 299,
    ("commonsense_qa", "validation"): 1221,
    ("openbookqa", "test"): 500,
    ("openbookqa", "validation"): 500,
    ("piqa", "validation"): 1838,
    ("social_iqa", "validation"): 1954,
    ("hellaswag", "validation"): 10042,
    ("winogrande", "validation"): 1267,
    ("sciq", "validation"): 1000,
    ("boolq", "validation"): 3270,
    ("mmlu", "validation"): 1531,
    ("mmlu", "test"): 14042,
    ("math_500", "test"): 500,
    ("gsm8k", "test"): 1319,
    **{(f"dart_math_{level}", "validation"): size for level, size in enumerate((43, 90, 105, 128, 134), 1)},
    # MATH's test problems of each level, less those
    **{
        (f"dart_math_{level}", "test"): size
        for level, size in enumerate((437 - 43, 894 - 90, 1131 - 105, 1214 - 128, 1324 - 134), 1)
    },
}


@pytest.mark.parametrize(("task", "split"), SIZES)
def test_embedded_benchmarks_are_whole(task: str, split: str) -> None:
    questions = load_task(task, split)
    assert len(questions) == SIZES[task, split]
    assert len({question.key for question in questions}) == len(questions)
    for question in questions:
        assert 0 <= question.gold < len(question.choices)
        assert question.text.strip()


def test_every_registered_task_is_tested() -> None:
    assert {task for task, _ in SIZES} == set(BENCHMARKS)


@pytest.mark.parametrize(
    ("task", "prompt", "continuation"),
    [
        ("arc_easy", "Question: Which technology was developed most recently?\nAnswer:", " cellular telephone"),
        ("piqa", "Goal: How do I ready a guinea pig cage for it's new occupants?\nAnswer:", None),
        ("hellaswag", "Roof shingle removal: A man is sitting on a roof. He", " is using wrap to wrap a pair of skis."),
        ("sciq", "Question: Who proposed the theory of evolution by natural selection?\nAnswer:", " Linnaeus"),
    ],
)
def test_cloze_prompts_read_as_the_field_writes_them(task: str, prompt: str, continuation: str | None) -> None:
    sample = as_sample(load_task(task, "validation")[0])
    assert sample.prompt == prompt == sample.contexts[0]
    assert continuation is None or sample.continuations[0] == continuation


def test_winogrande_scores_the_rest_of_the_sentence() -> None:
    sample = as_sample(load_task("winogrande", "validation")[0])
    assert sample.contexts[1] == "Sarah was a much better surgeon than Maria so Maria"
    assert set(sample.continuations) == {" always got the easier cases."}


def test_letters_list_the_options() -> None:
    sample = as_sample(load_task("arc_easy", "validation")[0], "letter")
    assert sample.prompt.endswith(
        "recently?\n A. cellular telephone\n B. television\n C. refrigerator\n D. airplane\nAnswer:"
    )
    assert sample.continuations == (" A", " B", " C", " D")


def test_a_larger_limit_only_adds() -> None:
    small, large = load_task("arc_easy", "test", 20), load_task("arc_easy", "test", 50)
    assert large[:20] == small
    assert load_task("arc_easy", "test", 20, seed=1) != small


@pytest.mark.parametrize(
    ("task", "split", "message"),
    [
        ("arc_eazy", "test", r"task arc_eazy is not known; did you mean arc_easy\?"),
        ("riddles", "test", "task riddles is not known; choose arc_easy"),
        ("arc_easy:test[:5%]", "validation", r"names two splits; write arc_easy:test\[:5%\]"),
        ("missing.jsonl", "test", "task missing.jsonl is not there"),
        ("arc_easy", "traim", "split traim of arc_easy is not known; choose train, validation, test, dev"),
    ],
)
def test_unknown_tasks_are_named(
    task: str, split: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_task(task, split)


def test_math_answers_come_from_the_solutions() -> None:
    """The ready-made answers of the embedded copy have lost characters: \\le( for \\left(, \\iny for \\infty."""
    questions = load_task("math_500", "test") + load_task("dart_math_5", "test")
    assert not any("\\iny" in q.choices[0] or "\\le(" in q.choices[0] for q in questions)
    assert questions[0].choices[0] == "\\left( 3, \\frac{\\pi}{2} \\right)"


def test_held_out_math_is_not_in_the_pool() -> None:
    apart = {question.text for question in load_task("math_500", "test")}
    for level in range(1, 6):
        assert apart.isdisjoint(question.text for question in load_task(f"dart_math_{level}", "test"))
        assert apart >= {question.text for question in load_task(f"dart_math_{level}", "validation")}


@pytest.mark.parametrize("cut", [1, 30, 75, 99])
def test_parts_of_a_split_share_nothing_and_lack_nothing(cut: int) -> None:
    whole = load_task("openbookqa", "validation")
    first, second = (load_task("openbookqa", f"validation[{part}]") for part in (f":{cut}%", f"{cut}%:"))
    assert {question.key for question in first}.isdisjoint(question.key for question in second)
    assert sorted([*first, *second], key=lambda q: q.key) == sorted(whole, key=lambda q: q.key)
    assert len(first) == len(whole) * cut // 100
    assert set(load_task("openbookqa", f"validation[:{cut}%]", limit=5)) <= set(first)


def test_parts_are_not_the_file_s_order() -> None:
    """MMLU is sorted by subject; a tenth of it still has most subjects."""
    subjects = {question.id.split("/")[0] for question in load_task("mmlu", "validation[:10%]")}
    assert len(subjects) > 40


@pytest.mark.parametrize("split", ["test[:0%]", "test[80%:20%]", "test[:5]", "test[", "test[:101%]"])
def test_wrong_parts_are_named(split: str) -> None:
    with pytest.raises(UserError, match=r"is no part of a split; write validation\[:75%\]"):
        load_task("openbookqa", split)


def test_a_part_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"question": f"{n} plus 1?", "choices": ["one", "two"], "answer": "AB"[n % 2]} for n in range(10)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, rest = (load_task(f"{file}{part}") for part in ("[:80%]", "[80%:]"))
    assert (len(first), len(rest)) == (8, 2)
    assert {one.key for one in (*first, *rest)} == {one.key for one in load_task(str(file))}
