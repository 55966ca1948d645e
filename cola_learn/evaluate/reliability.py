"""Whether predicted gains come true: what a reliability diagram shows (Guo et al., arXiv 1706.04599), for gains."""

from dataclasses import dataclass

import numpy

from cola_learn.label.score_matrix import Array

_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Predicted and realised gains of one controller over the base chain, in nats, over all held-out questions and all
    chains of its menu but the base chain.

    Attributes:
        controller: its name.
        predicted, realised: means in each of ten bins of as many predictions, from the lowest.
        error: expected calibration error: mean distance between the two over the bins.
        correlation: of single predictions with what came of them.
    """

    controller: str
    predicted: tuple[float, ...]
    realised: tuple[float, ...]
    error: float
    correlation: float


def reliability(name: str, predicted: Array, soft: Array) -> Reliability:
    """Of predicted gains and soft rewards, ``[Q, C]`` each, base chain first."""
    told, came = predicted[:, 1:].ravel(), (soft - soft[:, :1])[:, 1:].ravel()
    bins = [part for part in numpy.array_split(numpy.argsort(told, kind="stable"), _BINS) if len(part)]
    means = tuple(float(told[part].mean()) for part in bins)
    real = tuple(float(came[part].mean()) for part in bins)
    distance = sum(len(part) * abs(one - other) for part, one, other in zip(bins, means, real, strict=True))
    varies = told.std() > 0 and came.std() > 0
    correlation = float(numpy.corrcoef(told, came)[0, 1]) if varies else 0.0
    return Reliability(name, means, real, distance / len(told), correlation)
