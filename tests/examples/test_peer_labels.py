"""Other projects' forms: nothing that they can hold is lost there and back, and what is wrong in them is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.label.records import Label, Trial
from cola_learn.tasks.questions import Question
from examples.peer_labels import (
    from_count_rows,
    from_counts,
    from_drllm,
    from_polar,
    read_json,
    to_count_rows,
    to_counts,
    to_drllm,
    to_polar,
    write_json,
)

QUESTIONS = [
    Question("pets", "test", str(number), f"Which is number {number}?", ("a", "b", "c"), number % 3)
    for number in range(5)
]
BY_KEY = {question.key: question for question in QUESTIONS}

chains = st.lists(st.integers(0, 5), min_size=1, max_size=9).map(lambda layers: Chain(tuple(layers), 6))


@st.composite
def labels(draw: st.DrawFn) -> list[Label]:
    found = []
    for question in draw(st.lists(st.sampled_from(QUESTIONS), min_size=1, unique=True)):
        others = draw(st.lists(chains, max_size=5, unique=True))
        tried = [Chain.base(6), *(chain for chain in others if chain != Chain.base(6))]
        trials = tuple(Trial(chain, draw(st.sampled_from([0.0, 1.0])), 0.5, 3) for chain in tried)
        found.append(Label(question.task, question.split, question.id, trials))
    return found


def rewards(found: list[Label]) -> dict[str, dict[Chain, float]]:
    return {label.key: {trial.chain: trial.reward for trial in label.trials} for label in found}


@settings(deadline=None, max_examples=60)
@given(labels())
def test_polar_round_trip(found: list[Label]) -> None:
    content = json.loads(json.dumps(to_polar(found, BY_KEY)))
    again = list(from_polar(content, 6, QUESTIONS).labels)
    assert rewards(again) == rewards(found)
    assert all(label.base.chain.is_base for label in again)
    assert [list(trial.chain.layers) for trial in found[0].trials if trial.reward] == content["samples"][0][
        "final_valid_transitions"
    ]


@settings(deadline=None, max_examples=60)
@given(labels())
def test_counts_round_trip_of_what_they_can_hold(found: list[Label]) -> None:
    rows = json.loads(json.dumps(list(to_count_rows(found))))
    held = {
        key: {chain: reward for chain, reward in tried.items() if to_counts(chain)}
        for key, tried in rewards(found).items()
    }
    assert rewards(list(from_count_rows(rows))) == held


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8).filter(any))
def test_counts_and_chains(counts: list[int]) -> None:
    chain = from_counts(counts)
    assert [chain.layers.count(layer) for layer in range(len(counts))] == counts
    assert to_counts(chain) == counts
    assert list(chain.layers) == sorted(chain.layers)


@pytest.mark.parametrize(("text", "counts"), [("0-5", [1] * 6), ("0 (1)x2 3-5", [1, 2, 0, 1, 1, 1])])
def test_counts_of_known_chains(text: str, counts: list[int]) -> None:
    assert to_counts(Chain.parse(text, 6)) == counts


@pytest.mark.parametrize("text", ["(0-1)x2 2-5", "0 (1)x3 2-5", "1 0 2-5"])
def test_chains_that_counts_cannot_hold(text: str) -> None:
    assert to_counts(Chain.parse(text, 6)) is None


SAMPLE: dict[str, Any] = {
    "question": " Which is number 3?\n",
    "gt_ans": "a",
    "final_valid_transitions": [[0, 1, 2, 4, 5], [0, 1, 1, 2, 3, 4, 5]],
    "final_invalid_transitions": [[0, 5]],
    "initial_score": 0.0,
}


@pytest.mark.parametrize(
    "content", [{"samples": [SAMPLE]}, [SAMPLE], {"x": SAMPLE}, [SAMPLE | {"initial_transition_metric": 0.0}]]
)
def test_polar_in_all_its_shapes(content: Any) -> None:
    """As its projects write it: matched by text, the base chain's reward from its own field."""
    [label] = from_polar(content, 6, QUESTIONS).labels
    assert label.key == "pets/test/3"
    assert [(str(trial.chain), trial.reward) for trial in label.trials] == [
        *(("0-5", 0.0), ("0-2 4-5", 1.0), ("0 (1)x2 2-5", 1.0), ("0 5", 0.0)),
    ]


POLAR_FAULTS = [
    (SAMPLE | {"question": "Who?"}, "'Who?' is no question of the task"),
    ({"question": "Which is number 3?"}, "has no field 'final_valid_transitions'"),
    (SAMPLE | {"final_valid_transitions": [[0, 99]]}, "layer 99 is not in the backbone"),
    (SAMPLE | {"final_valid_transitions": 3}, "final_valid_transitions is a int; give a list of paths"),
    (SAMPLE | {"final_valid_transitions": [[]]}, "is no list of layers"),
    (SAMPLE | {"final_valid_transitions": [[0, 1.5]]}, "holds what is no layer"),
    (SAMPLE | {"final_valid_transitions": [[0] * 200]}, "a path runs 200 layers; at most 16 times the 6"),
    (SAMPLE | {"final_valid_transitions": [[0, 5]]}, "chain 0 5 is given as right and as wrong"),
    (SAMPLE | {"initial_score": 1.0, "final_invalid_transitions": [[0, 1, 2, 3, 4, 5]]}, "given as the opposite"),
    (SAMPLE | {"initial_score": None}, "does not say whether the model itself is right"),
    (SAMPLE | {"initial_score": 7}, "the model's own score is 7; give 0 to 1"),
    (SAMPLE | {"initial_score": float("nan")}, "the model's own score is nan; give 0 to 1"),
    (SAMPLE | {"sample_info": [1], "question": "x"}, "sample_info is a list"),
    (SAMPLE | {"question": None}, "is no question of the task"),
]
OTHER = SAMPLE | {"question": "Which is number 2?"}


@pytest.mark.parametrize(("sample", "message"), POLAR_FAULTS)
def test_records_of_polar_that_cannot_be_used_are_skipped_with_a_line_each(sample: Any, message: str) -> None:
    found = from_polar([OTHER, sample, OTHER], 6, QUESTIONS)
    assert [label.key for label in found.labels] == ["pets/test/2"]
    assert len(found.skipped) == 2
    assert found.skipped[0].startswith("sample 1: ")
    assert message in found.skipped[0]
    assert found.skipped[1] == "sample 2: question pets/test/2 is there before"


def test_records_of_repolar_name_questions_by_their_id() -> None:
    """Many have neither text nor answer."""
    questions = [Question("m", "train", "MATH/train/algebra/1003.json", "Q", ("1", "2"), 0, open=True), *QUESTIONS]
    sample = {name: SAMPLE[name] for name in ("final_valid_transitions", "final_invalid_transitions", "initial_score")}
    named = [sample | {"sample_info": {"query_id": f"MATH/train/algebra/{n}.json", "domain": "x"}} for n in (1003, 4)]
    found = from_polar({"samples": named}, 6, questions)
    assert [label.id for label in found.labels] == ["MATH/train/algebra/1003.json"]
    assert found.skipped == ("sample 1: 'MATH/train/algebra/4.json' is no question of the task",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text", "not in PoLar's form"),
        ([1], "not in PoLar's form"),
        ([], "none of its 0 records can be used"),
        ([SAMPLE | {"question": "Who?"}], "none of its 1 records can be used; sample 0: 'Who\\?' is no question"),
    ],
)
def test_what_is_no_file_of_polar_is_named(content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_polar(content, 6, QUESTIONS)


BASE = list(range(6))
DRLLM = {
    "questions": ["Which is number 3?", "Which is number 1?", "Which is number 0?"],
    "best_path": [[0, 1, 2, 4, 5], BASE, BASE],
    "good_paths": [[[0, 1, 2, 4, 5], [0, 1, 1, 2, 3, 4, 5]], [], [BASE]],
    "original_correct": [False, False, True],
}


def test_arrays_as_drllm_writes_them() -> None:
    found = from_drllm(json.loads(json.dumps(DRLLM)), 6, QUESTIONS)
    assert not found.skipped
    third, first, none = found.labels
    assert [(str(trial.chain), trial.reward) for trial in third.trials] == [
        *(("0-5", 0.0), ("0-2 4-5", 1.0), ("0 (1)x2 2-5", 1.0)),
    ]
    assert [(label.id, [trial.reward for trial in label.trials]) for label in (first, none)] == [("1", [0]), ("0", [1])]


@settings(deadline=None, max_examples=60)
@given(labels())
def test_drllm_round_trip_of_good_chains(found: list[Label]) -> None:
    content = json.loads(json.dumps(to_drllm(found, BY_KEY)))
    again = from_drllm(content, 6, QUESTIONS)
    base = Chain.base(6)
    expected = {
        key: {chain: reward for chain, reward in tried.items() if reward or chain == base}
        for key, tried in rewards(found).items()
    }
    assert rewards(list(again.labels)) == expected
    assert not again.skipped


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": "x"}, "not in Dr.LLM's form"),
        ({"best_path": [BASE]}, "array best_path has 1 entries and questions 3"),
        ({"good_paths": None, "best_path": None}, "neither an array best_path nor one good_paths"),
    ],
)
def test_what_is_no_file_of_drllm_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_drllm(DRLLM | change, 6, QUESTIONS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": ["Who?", *DRLLM["questions"][1:]]}, "question 0: 'Who?' is no question"),
        ({"best_path": [[0, 9], BASE, BASE]}, "question 0: layer 9 is not in the backbone"),
        ({"good_paths": [[], [BASE], [BASE]]}, "question 1: all layers in order have a score of 0 and are given as"),
        ({"good_paths": [5, [], []]}, "question 0: good_paths is a int"),
        ({"original_correct": [None, "no", True]}, "question 1: the model's own score is 'no'"),
    ],
)
def test_records_of_drllm_that_cannot_be_used_are_skipped(change: dict[str, Any], message: str) -> None:
    found = from_drllm(DRLLM | change, 6, QUESTIONS)
    assert len(found.labels) == 2
    assert message in found.skipped[0]


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"task": "a", "split": "b", "id": "c", "counts": [10**9, 1], "reward": 1},
        {"task": "a", "split": "b", "id": "c", "counts": [0, 0], "reward": 1},
    ],
)
def test_what_is_wrong_in_counts_is_named(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="row 0"):
        list(from_count_rows([row]))


def test_files_plain_and_compressed(tmp_path: Path) -> None:
    assert write_json(tmp_path / "a.json", SAMPLE) == 1
    assert write_json(tmp_path / "b" / "a.jsonl.gz", [SAMPLE, SAMPLE], lines=True) == 2
    assert read_json(tmp_path / "a.json") == SAMPLE
    assert read_json(tmp_path / "b" / "a.jsonl.gz", lines=True) == [SAMPLE, SAMPLE]
    assert json.loads(gzip.decompress((tmp_path / "b" / "a.jsonl.gz").read_bytes()).splitlines()[0]) == SAMPLE
    (tmp_path / "broken.json.gz").write_bytes(b"not gzip")
    for name in ("broken.json.gz", "none.json"):
        with pytest.raises(UserError, match=name):
            read_json(tmp_path / name)
