"""When to act on a predicted gain: scale and threshold, from questions that were not trained on."""

import numpy
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LinearRegression

FEWEST = 30  # questions that a bound is taken of
CUTS = 20  # thresholds that are tried


def calibrate(
    predicted: NDArray[numpy.float64], realised: NDArray[numpy.float64], error_rate: float
) -> dict[str, float]:
    """Make predicted gains true, and find from which on they may be acted upon.

    Args:
        predicted: gain of every chain of the menu over the base chain, ``[Q, C]``, base chain first.
        realised: what each really gained, ``[Q, C]``.
        error_rate: of the one-sided bound, spread over the thresholds that are tried (Bonferroni).

    Returns:
        ``gain_scale``, the slope of realised on predicted gains (0 where they do not go together), and ``threshold``,
        the lowest scaled gain such that the questions whose best chain is predicted to gain more really gained: the
        lower confidence bound of their mean is above 0. 1e9 if there is none: always the base chain.
    """
    slope = LinearRegression().fit(predicted[:, 1:].reshape(-1, 1), realised[:, 1:].reshape(-1)).coef_[0]
    scale = max(0.0, float(slope))
    best = predicted.argmax(1)
    promised = scale * predicted.max(1)
    came = numpy.take_along_axis(realised, best[:, None], 1)[:, 0]
    if error_rate >= 1:
        return {"gain_scale": scale, "threshold": 0.0}
    for cut in numpy.unique(numpy.quantile(promised, numpy.linspace(0, 1, CUTS, endpoint=False))):
        acted = came[(promised > max(cut, 0.0)) & (best > 0)]
        if len(acted) >= FEWEST and acted.std() > 0:
            quantile = stats.t.ppf(1 - error_rate / CUTS, len(acted) - 1)
            if acted.mean() - quantile * acted.std(ddof=1) / len(acted) ** 0.5 > 0:
                return {"gain_scale": scale, "threshold": max(float(cut), 0.0)}
    return {"gain_scale": scale, "threshold": 1e9}
