"""The upper hull of static chains, against trying all coins between two of them."""

import numpy
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.evaluate.static_front import StaticFront, best_within, upper_hull

points = st.lists(st.tuples(st.integers(20, 32), st.integers(0, 100)), min_size=1, max_size=12)


@given(points, st.floats(18.0, 34.0))
def test_no_coin_between_two_chains_gives_more_at_no_more_depth(found: list[tuple[int, int]], depth: float) -> None:
    depths, rewards = (numpy.array(column, dtype=float) for column in zip(*found, strict=True))
    front = StaticFront(depths, upper_hull(depths, rewards))
    chances = front.at(depth)
    best = -1.0
    for one in range(len(found)):
        for other in range(len(found)):
            low, high = depths[one], depths[other]
            if low <= depth:
                best = max(best, rewards[one])
                if high > depth:
                    share = (depth - low) / (high - low)
                    best = max(best, (1 - share) * rewards[one] + share * rewards[other])
    if chances is None:
        assert depth < depths.min()
    else:
        assert abs(chances.sum() - 1) < 1e-9
        assert chances @ depths <= depth + 1e-6
        assert abs(chances @ rewards - best) < 1e-6


def test_corners_rise_and_equal_chains_are_one() -> None:
    depths = numpy.array([30.0, 24, 28, 28, 26, 31])
    rewards = numpy.array([0.5, 0.3, 0.5, 0.6, 0.4, 0.55])
    assert upper_hull(depths, rewards) == (1, 3)


def test_the_best_chain_within_a_depth_need_not_be_a_corner() -> None:
    depths, rewards = numpy.array([30.0, 24, 26]), numpy.array([1.0, 0.0, 0.1])
    assert upper_hull(depths, rewards) == (1, 0)
    assert [best_within(depths, rewards, depth) for depth in (23, 24, 27, 30)] == [None, 1, 2, 0]
