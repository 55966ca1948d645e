"""The temperature of scores, against questions that were drawn at one."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from cola_learn.rewards.temperature import fit_temperature, task_temperatures


@given(st.floats(0.05, 200.0), st.integers(0, 2**32 - 1))
def test_it_is_what_the_answers_were_drawn_at(scale: float, seed: int) -> None:
    """Whatever the unit of the scores: answers drawn from their softmax at a temperature give it back."""
    draws = numpy.random.default_rng(seed)
    scores = scale * draws.normal(size=(3000, 4))
    chances = softmax(scores / (2 * scale), axis=1)
    gold = (chances.cumsum(1) > draws.random((3000, 1))).argmax(1)
    assert fit_temperature(scores, gold) == pytest.approx(2 * scale, rel=0.25)


def test_no_other_temperature_is_likelier() -> None:
    draws = numpy.random.default_rng(0)
    scores = 30 * draws.normal(size=(200, 5))
    scores[::3, 3:] = -numpy.inf  # questions with fewer options
    gold = (scores[:, :3] + 40 * draws.normal(size=(200, 3))).argmax(1)

    def likelihood(temperature: float) -> float:
        return float(log_softmax(scores / temperature, axis=1)[numpy.arange(200), gold].mean())

    found = fit_temperature(scores, gold)
    assert all(likelihood(found) >= likelihood(found * factor) - 1e-9 for factor in numpy.geomspace(0.1, 10, 41))


def test_each_task_has_its_own_and_few_questions_stay_within_bounds() -> None:
    """All right would be best at 0, all wrong at infinity."""
    right, wrong = [[9.0, 1.0]] * 5, [[1.0, 9.0, 1.0]] * 5
    found = task_temperatures(
        ["a", "b"] * 5, [0] * 10, [row for pair in zip(right, wrong, strict=True) for row in pair]
    )
    assert 0 < found["a"] < 1 < found["b"] < 200
    assert task_temperatures(["equal"], [0], [[2.0, 2.0]]) == {"equal": 1.0}
    assert task_temperatures([], [], []) == {}
