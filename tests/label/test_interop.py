"""Other projects' forms: nothing that they can hold is lost there and back, and what is wrong in them is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cola_learn.chains import Chain
from cola_learn.cli import UserError
from cola_learn.label import Label, Trial
from cola_learn.label.interop import (
    from_counts,
    from_drllm,
    from_polar,
    read_json,
    to_counts,
    to_drllm,
    to_polar,
    write_json,
)
from cola_learn.tasks import Question

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
    again = list(from_polar(content, 6, QUESTIONS))
    assert rewards(again) == rewards(found)
    assert all(label.base.chain.is_base for label in again)
    assert [list(trial.chain.layers) for trial in found[0].trials if trial.reward] == content["samples"][0][
        "final_valid_transitions"
    ]


@settings(deadline=None, max_examples=60)
@given(labels())
def test_drllm_round_trip_of_what_it_can_hold(found: list[Label]) -> None:
    rows = json.loads(json.dumps(list(to_drllm(found))))
    held = {
        key: {chain: reward for chain, reward in tried.items() if to_counts(chain)}
        for key, tried in rewards(found).items()
    }
    assert rewards(list(from_drllm(rows))) == held


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
    [label] = from_polar(content, 6, QUESTIONS)
    assert label.key == "pets/test/3"
    assert [(str(trial.chain), trial.reward) for trial in label.trials] == [
        *(("0-5", 0.0), ("0-2 4-5", 1.0), ("0 (1)x2 2-5", 1.0), ("0 5", 0.0)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text", "not in PoLar's form"),
        ([1], "not in PoLar's form"),
        ([SAMPLE | {"question": "Who?"}], r"sample 0 \('Who\?'\) is no question of the task"),
        ([{"question": "Which is number 3?"}], "final_valid_transitions"),
        ([SAMPLE | {"final_valid_transitions": [[0, 99]]}], "layer 99 is not in the backbone"),
        ([SAMPLE | {"final_valid_transitions": 3}], "in its transitions"),
    ],
)
def test_what_is_wrong_in_polar_is_named(content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(from_polar(content, 6, QUESTIONS))


@pytest.mark.parametrize("row", [{}, {"task": "a", "split": "b", "id": "c", "counts": [0, 0], "reward": 1}])
def test_what_is_wrong_in_drllm_is_named(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="row 0"):
        list(from_drllm([row]))


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
