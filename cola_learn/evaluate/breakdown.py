"""For which questions a policy is better or worse than the plain model."""

from collections.abc import Mapping

import numpy
from numpy.typing import NDArray

from cola_learn.evaluate.multichain import lead
from cola_learn.label.score_matrix import Array, ScoreMatrix

Groups = Mapping[str, NDArray[numpy.str_]]
"""By the name of a property, the group that each question belongs to, ``[Q]``."""

_THIRDS = ("lowest third", "middle third", "highest third")


def groupings(table: ScoreMatrix) -> Groups:
    """Questions by task, and in thirds by the length of their text (characters), by how sure the plain model is (lead
    of its first option over its second), and by difficulty (mean log-probability of the right option over all chains
    of the menu; it takes the gold answer, and no policy sees it)."""
    return {
        "task": table.tasks,
        "length": _thirds(numpy.array([float(len(question.text)) for question in table.questions])),
        "lead of base": _thirds(lead(table, 0)),
        "difficulty": _thirds(-table.soft.mean(1)),
    }


def differences_by_group(differences: Array, groups: Groups) -> dict[str, dict[str, float]]:
    """Means of ``[Q]`` in each group of each property."""
    return {
        name: {str(group): float(differences[own == group].mean()) for group in sorted(set(own.tolist()), key=_order)}
        for name, own in groups.items()
    }


def _thirds(values: Array) -> NDArray[numpy.str_]:
    cuts = numpy.quantile(values, [1 / 3, 2 / 3])
    return numpy.array(_THIRDS)[numpy.searchsorted(cuts, values, side="left")]


def _order(group: str) -> tuple[int, str]:
    return (_THIRDS.index(group), "") if group in _THIRDS else (0, group)
