"""Paired differences on the same questions, with confidence intervals and tests."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
_POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """A mean with a bootstrap 95% confidence interval."""

    mean: float
    low: float
    high: float


def points(interval: Interval | None) -> str:
    """An interval in percentage points, such as ``+1.0 (-0.2, +2.2)``; empty for None."""
    if interval is None:
        return ""
    return f"{100 * interval.mean:+.1f} ({100 * interval.low:+.1f}, {100 * interval.high:+.1f})"


def paired_difference(values: ArrayLike, others: ArrayLike, seed: int = 0) -> Interval:
    """Mean of ``values - others`` with a percentile bootstrap interval over the pairs, ``[Q]``."""
    # Rounding errors are no difference, and would be shown as -0.0.
    difference = (numpy.asarray(values, dtype=float) - numpy.asarray(others, dtype=float)).round(12) + 0.0
    mean = float(difference.mean())
    if numpy.ptp(difference) == 0:
        return Interval(mean, mean, mean)
    from scipy import stats

    result = stats.bootstrap(
        (difference,),
        numpy.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=numpy.random.default_rng(seed),
    )
    return Interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))


def share_saved(losses: ArrayLike, others: ArrayLike, seed: int = 0) -> Interval:
    """By what share the mean of ``losses`` is below that of ``others``, with a percentile bootstrap interval over the
    pairs, ``[Q]``."""
    from scipy import stats

    pairs = (numpy.asarray(losses, dtype=float), numpy.asarray(others, dtype=float))

    def saved(one: NDArray[numpy.float64], other: NDArray[numpy.float64], axis: int = -1) -> NDArray[numpy.float64]:
        found: NDArray[numpy.float64] = 1 - one.mean(axis) / other.mean(axis)
        return found

    result = stats.bootstrap(
        pairs,
        saved,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=numpy.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Interval(float(saved(*pairs)), float(interval.low), float(interval.high))


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided McNemar p-value from the numbers of questions gained and lost."""
    if gained + lost == 0:
        return 1.0
    from scipy import stats

    return float(stats.binomtest(gained, gained + lost).pvalue)


def p_value(values: NDArray[numpy.float64], others: NDArray[numpy.float64]) -> float:
    """McNemar's exact test where both are 0 or 1, else a paired t test; 1 where nothing differs."""
    from scipy import stats

    gains = numpy.round(values - others, 12)  # mixtures that are equal but for rounding
    if set(numpy.unique(gains)) <= {-1.0, 0.0, 1.0}:
        return mcnemar(int((gains > 0).sum()), int((gains < 0).sum()))
    return float(stats.ttest_rel(values, others).pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number (Holm 1979): below 0.05, the chance of any false positive is below 5%."""
    adjusted: dict[str, float] = {}
    least = 0.0
    for place, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}


def detectable(discordant: float, n: int) -> float:
    """The paired difference in accuracy that ``n`` questions show with 80% power at the 5% level, if this share of them
    is right under one policy only (normal approximation)."""
    from scipy import stats

    return float((stats.norm.ppf(0.975) + stats.norm.ppf(_POWER)) * (discordant / n) ** 0.5)
