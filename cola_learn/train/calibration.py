"""Calibration of predicted gains: scale and threshold, from validation questions."""

from typing import NamedTuple

import numpy
from numpy.typing import NDArray

FEWEST = 30  # questions that a bound is taken of
CUTS = 20  # thresholds that are tried


class Rule(NamedTuple):
    """When a predicted gain is acted upon.

    Attributes:
        gain_scale: what predicted gains are multiplied with: the slope of realised on predicted ones, 0 where they do
            not go together.
        threshold: what a chain must promise to gain, so scaled, to be run instead of the base chain.
    """

    gain_scale: float
    threshold: float


def calibrate(predicted: NDArray[numpy.float64], realised: NDArray[numpy.float64], error_rate: float) -> Rule:
    """Make predicted gains true, and find from which on they may be acted upon.

    Args:
        predicted: gain of every chain of the menu over the base chain, ``[Q, C]``, base chain first.
        realised: what each really gained, ``[Q, C]``.
        error_rate: of the one-sided bound, spread over the thresholds that are tried (Bonferroni).

    Returns:
        The rule whose threshold is the lowest such that the questions whose best chain promises more really gained: the
        lower confidence bound of their mean is above 0. It is 1e9, always the base chain, if there is none; 0 where the
        error rate is 1.
    """
    from scipy import stats  # slow to import, as scikit-learn is
    from sklearn.linear_model import LinearRegression

    slope = LinearRegression().fit(predicted[:, 1:].reshape(-1, 1), realised[:, 1:].reshape(-1)).coef_[0]
    scale = max(0.0, float(slope))
    best = predicted.argmax(1)
    promised = scale * predicted.max(1)
    came = numpy.take_along_axis(realised, best[:, None], 1)[:, 0]
    if error_rate >= 1:
        return Rule(scale, 0.0)
    for cut in numpy.unique(numpy.quantile(promised, numpy.linspace(0, 1, CUTS, endpoint=False))):
        acted = came[(promised > max(cut, 0.0)) & (best > 0)]
        if len(acted) >= FEWEST and acted.std() > 0:
            quantile = stats.t.ppf(1 - error_rate / CUTS, len(acted) - 1)
            if acted.mean() - quantile * acted.std(ddof=1) / len(acted) ** 0.5 > 0:
                return Rule(scale, max(float(cut), 0.0))
    return Rule(scale, 1e9)
