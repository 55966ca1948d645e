"""Intervals and tests, against formulas and counting by hand."""

import math

import numpy
import pytest
from scipy import stats

from cola_learn.stats import detectable, holm, mcnemar, p_value, paired_difference, points


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


def test_rewards_that_are_fractions_are_tested_by_their_means() -> None:
    draw = numpy.random.default_rng(3)
    mine, others = draw.integers(0, 2, 300).astype(float), draw.integers(0, 2, 300).astype(float)
    gained, lost = int((mine > others).sum()), int((mine < others).sum())
    assert p_value(mine, others) == mcnemar(gained, lost)
    assert p_value(mine, others / 2) == pytest.approx(stats.ttest_rel(mine, others / 2).pvalue)
    assert p_value(others / 3 + 1e-14, others / 3) == 1


def test_rounding_errors_are_no_difference() -> None:
    assert points(paired_difference([0.1 + 0.2, 0.5], [0.3, 0.5 + 1e-16])) == "+0.0 (+0.0, +0.0)"
    assert points(paired_difference([0.3, 0.5], [0.1 + 0.2, 0.5])) == "+0.0 (+0.0, +0.0)"
