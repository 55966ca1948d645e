"""Choices dealt to other questions: what of a policy's result does not depend on the input."""

import numpy
from numpy.typing import NDArray

from cola_learn.label.score_matrix import Array, ScoreMatrix


def dealt(table: ScoreMatrix, chosen: NDArray[numpy.int64], within_tasks: bool) -> Array:
    """Rewards of choices dealt to other questions, of all tasks or of the same, in the mean over all ways to deal them,
    ``[Q]``.

    Args:
        table: Q questions.
        chosen: index of the chain chosen for each of them, ``[Q]``.
        within_tasks: only to questions of the same task.
    """
    groups = table.tasks if within_tasks else numpy.zeros(len(table))
    found = numpy.zeros(len(table))
    for group in numpy.unique(groups):
        own = groups == group
        counts = numpy.bincount(chosen[own], minlength=len(table.chains))
        found[own] = table.rewards[own] @ (counts / own.sum())
    return found
