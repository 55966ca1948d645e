"""Policies of one's own: what they see, and what is refused."""

import sys
from types import ModuleType

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola_learn import Chain, Question, Sample, as_sample
from cola_learn.errors import UserError
from cola_learn.evaluate.held_table import Choice, HeldTable, chains_to_run
from cola_learn.evaluate.policies import Policy, chosen_by, policy_named

SAMPLES = [as_sample(Question("t", "s", str(row), f"text {row}", ("a", "b"), row % 2)) for row in range(3)]


def test_chains_and_their_texts_are_taken() -> None:
    mixed = Policy("mixed", lambda samples: [Chain.base(6), "0-2 4-5", "0 (1)x2 2-5"])
    assert [str(chain) for chain in chosen_by(mixed, SAMPLES, 6)] == ["0-5", "0-2 4-5", "0 (1)x2 2-5"]


def test_the_gold_answer_is_not_there_to_be_read() -> None:
    def peek(samples: list[Sample]) -> list[str]:
        return ["0-5" if sample.gold else "0-4" for sample in samples]  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="gold"):
        chosen_by(Policy("peek", peek), SAMPLES, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["0-5"], "policy mine chose 1 chains for 3 questions"),
        (["0-5", "0-6", "0-5"], "policy mine, question t/s/1: '0-6' in chain '0-6': the backbone's layers are 0 to 5"),
        (["0-5", "0-5", None], "policy mine, question t/s/2: None is no chain of 6 layers"),
        ([Chain.base(4)] * 3, "policy mine, question t/s/0: Chain.* is no chain of 6 layers"),
    ],
)
def test_what_is_no_chain_is_named(chosen: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        chosen_by(Policy("mine", lambda samples: chosen), SAMPLES, 6)


def test_what_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("plugged_policies")
    module.MINE = Policy("mine", lambda samples: [])  # type: ignore[attr-defined]
    module.OTHER = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "plugged_policies", module)
    assert policy_named("plugged_policies.MINE").name == "mine"
    for path, message in (
        ("plugged_policies.OTHER", "--policies plugged_policies.OTHER is no Policy"),
        ("plugged_policies.NONE", "cannot be imported"),
        ("nowhere.MINE", "cannot be imported"),
        ("mine", "--policies mine is no Policy"),
    ):
        with pytest.raises(UserError, match=message):
            policy_named(path)


QUESTIONS = [Question(f"task{row % 3}", "s", str(row), "", ("a", "b"), 0) for row in range(30)]


@given(st.lists(st.integers(0, 3), min_size=30, max_size=30), st.integers(0, 5))
def test_dealing_is_the_mean_over_all_ways_to_deal(chosen: list[int], seed: int) -> None:
    """Against every question's reward under the chain of every other of its group, itself included."""
    chains = tuple(Chain((index,), 4) for index in range(4))
    rewards = numpy.random.default_rng(seed).integers(0, 2, (30, 4)).astype(float)
    table = HeldTable(tuple(QUESTIONS), chains, rewards, numpy.zeros((30, 4), int))
    found = table.result(Choice("mine", tuple(chains[one] for one in chosen), dealt=True), seed)
    tasks = [question.task for question in QUESTIONS]
    for row in range(30):
        mates = [other for other in range(30) if tasks[other] == tasks[row]]
        assert found.shuffled is not None
        assert found.shuffled_in_task is not None
        assert found.shuffled[row] == pytest.approx(rewards[row, chosen].mean())
        assert found.shuffled_in_task[row] == pytest.approx(rewards[row, [chosen[mate] for mate in mates]].mean())


@given(st.lists(st.integers(0, 40), min_size=30, max_size=30), st.integers(0, 5))
def test_what_results_need_is_run_and_no_more_than_that(chosen: list[int], seed: int) -> None:
    chains = tuple(Chain((index,), 41) for index in range(41))
    choice = Choice("mine", tuple(chains[one] for one in chosen), dealt=True)
    wanted = chains_to_run([choice], QUESTIONS, seed)
    rewards = numpy.full((30, 41), numpy.nan)
    for row, question in enumerate(QUESTIONS):
        assert chains[chosen[row]] in wanted[question.key]
        assert len(wanted[question.key]) <= 1 + 16 + 16
        rewards[row, [chain.layers[0] for chain in wanted[question.key]]] = 1.0
    found = HeldTable(tuple(QUESTIONS), chains, rewards, numpy.zeros((30, 41), int)).result(choice, seed)
    for values in (found.rewards, found.shuffled, found.shuffled_in_task):
        assert values is not None
        assert values == pytest.approx(numpy.ones(30))
