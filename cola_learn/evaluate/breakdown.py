"""For which questions a policy is better or worse than the plain model, and whether predicted gains come true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from cola_learn.label.score_matrix import Array
from cola_learn.tasks.questions import Question

Groups = Mapping[str, NDArray[numpy.str_]]
"""By the name of a property, the group that each question belongs to, ``[Q]``."""

_THIRDS = ("lowest third", "middle third", "highest third")


def groupings(questions: Sequence[Question], leads: Array | None, difficulty: Array | None) -> Groups:
    """Questions by task, and in thirds by other properties.

    Args:
        questions: Q of them; their texts have a length in characters.
        leads: how sure the plain model is: lead of its first option over its second, ``[Q]``.
        difficulty: of a question, the higher the harder, ``[Q]``. It takes the gold answer; no policy sees it.
    """
    numbers = {
        "length": numpy.array([float(len(question.text)) for question in questions]),
        "lead of base": leads,
        "difficulty": difficulty,
    }
    return {
        "task": numpy.array([question.task for question in questions]),
        **{name: _thirds(values) for name, values in numbers.items() if values is not None},
    }


def leads(probabilities: Array) -> Array:
    """Probability of the best option less that of the second best, ``[..., O]`` to ``[...]``: how sure a chain is."""
    ordered = numpy.sort(probabilities, axis=-1)
    found: Array = ordered[..., -1] - ordered[..., -2]
    return found


def differences_by_group(differences: Array, groups: Groups) -> dict[str, dict[str, float]]:
    """Means of ``[Q]`` in each group of each property."""
    return {
        name: {group: float(differences[own == group].mean()) for group in _ordered(own)}
        for name, own in groups.items()
    }


def counts_by_group(groups: Groups) -> dict[str, dict[str, int]]:
    """Number of questions in each group of each property."""
    return {name: {group: int((own == group).sum()) for group in _ordered(own)} for name, own in groups.items()}


def _thirds(values: Array) -> NDArray[numpy.str_]:
    cuts = numpy.quantile(values, [1 / 3, 2 / 3])
    return numpy.array(_THIRDS)[numpy.searchsorted(cuts, values, side="left")]


def _ordered(own: NDArray[numpy.str_]) -> list[str]:
    """The groups, thirds from the lowest."""

    def place(group: str) -> tuple[int, str]:
        return (_THIRDS.index(group), "") if group in _THIRDS else (0, group)

    return sorted(map(str, set(own.tolist())), key=place)


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
