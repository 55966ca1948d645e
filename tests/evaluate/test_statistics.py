import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cola_learn.chains import Chain
from cola_learn.evaluate.policies import shuffled, static_candidates
from cola_learn.evaluate.statistics import Outcome, summarize_policy
from cola_learn.intervals import detectable, holm, mcnemar, paired_difference
from cola_learn.label.records import Label, Trial

BASE, SHORT = Chain.base(6), Chain.parse("0-3 5", 6)


def outcomes(pairs: list[tuple[int, int]]) -> list[Outcome]:
    return [Outcome(f"t/s/{i}", SHORT, float(new), float(old), 0, 0) for i, (old, new) in enumerate(pairs)]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60))
def test_summary_counts(pairs: list[tuple[int, int]]) -> None:
    row = summarize_policy(outcomes(pairs))
    assert row.transitions["wrong_to_right"] == pairs.count((0, 1))
    assert row.transitions["right_to_wrong"] == pairs.count((1, 0))
    assert sum(row.transitions.values()) == len(pairs)
    assert row.accuracy == pytest.approx(sum(new for _, new in pairs) / len(pairs))
    assert row.difference.mean == pytest.approx(sum(new - old for old, new in pairs) / len(pairs))
    assert row.difference.low <= row.difference.mean + 1e-9
    assert row.difference.high >= row.difference.mean - 1e-9
    assert (row.depth, row.unique_depth) == (5, 5)


def test_interval_agrees_with_the_normal_one_on_many_pairs() -> None:
    draw = numpy.random.default_rng(1)
    new, old = draw.integers(0, 2, 2000), draw.integers(0, 2, 2000)
    interval = paired_difference(new.tolist(), old.tolist())
    error = stats.sem(new - old)
    assert interval.low == pytest.approx(interval.mean - 1.96 * error, abs=0.003)
    assert interval.high == pytest.approx(interval.mean + 1.96 * error, abs=0.003)
    assert interval == paired_difference(new.tolist(), old.tolist())


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 5), (9, 2), (1, 12)])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    total = gained + lost
    tail = sum(math.comb(total, count) for count in range(min(gained, lost) + 1)) / 2**total if total else 1.0
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail))


@given(st.integers(2, 40), st.integers(0, 5))
def test_shuffling_gives_every_question_another_one_s_chain(count: int, seed: int) -> None:
    chains = [Chain((index,), count) for index in range(count)]
    moved = shuffled(chains, seed)
    assert sorted(chain.layers for chain in moved) == [chain.layers for chain in chains]
    assert all(new != old for new, old in zip(moved, chains, strict=True))


def test_static_candidates_are_short_enough_and_best_first() -> None:
    texts = {"0-5": [1, 0, 1, 0], "0-3 5": [1, 1, 1, 1], "0-2 4-5": [0, 0, 1, 0], "0 (1)x3 2-5": [1, 1, 1, 1]}
    labels = [
        Label(
            "t",
            "s",
            str(index),
            tuple(Trial(Chain.parse(text, 6), float(found[index]), 0.0, 1) for text, found in texts.items()),
        )
        for index in range(4)
    ]
    assert [str(chain) for chain in static_candidates(labels, 5.5, 2)] == ["0-3 5", "0-2 4-5"]
    assert str(static_candidates(labels, 6.0, 1)[-1]) == "0-5"


def test_holm_is_the_textbook_s() -> None:
    """Against the example of the original paper's procedure worked by hand: 4, 3, 2 and 1 times, never falling."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({}) == {}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_what_is_called_detectable_is_found_four_times_in_five() -> None:
    n, discordant = 570, 0.12
    gap = detectable(discordant, n)
    draws = numpy.random.default_rng(0)
    found = 0
    for _ in range(600):
        gained, lost, _ = draws.multinomial(n, [(discordant + gap) / 2, (discordant - gap) / 2, 1 - discordant])
        found += mcnemar(int(gained), int(lost)) < 0.05
    assert 0.7 < found / 600 < 0.88  # the exact test is a little less powerful than the formula
