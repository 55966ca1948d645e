"""Policies of one's own: what they see, and what is refused."""

import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola_learn import Chain, Question, Sample, as_sample
from cola_learn.errors import UserError
from cola_learn.evaluate.policies import Policy, chosen_by, policy_named, shuffled

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


@given(st.integers(2, 40), st.integers(0, 5))
def test_shuffling_gives_every_question_another_one_s_chain(count: int, seed: int) -> None:
    chains = [Chain((index,), count) for index in range(count)]
    moved = shuffled(chains, seed)
    assert sorted(chain.layers for chain in moved) == [chain.layers for chain in chains]
    assert all(new != old for new, old in zip(moved, chains, strict=True))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 5))
def test_shuffling_within_groups_stays_there(groups: list[str], seed: int) -> None:
    chains = [Chain((index,), len(groups)) for index in range(len(groups))]
    moved = shuffled(chains, seed, groups)
    for index, (group, chain) in enumerate(zip(groups, moved, strict=True)):
        [giver] = chain.layers
        assert groups[giver] == group
        assert (giver != index) == (groups.count(group) > 1)
