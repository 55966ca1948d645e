"""Choices dealt to other questions: what of a policy's result does not depend on the input."""

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from cola_learn.label.score_matrix import Array, ScoreMatrix


def dealt(table: ScoreMatrix, chosen: Sequence[NDArray[numpy.int64]], within_tasks: bool) -> Array:
    """Rewards of choices dealt to other questions, of all tasks or of the same, in the mean over all ways to deal them
    and over several policies, ``[Q]``.

    Args:
        table: Q questions.
        chosen: index of the chain that each policy chose for each of them, ``[Q]`` each.
        within_tasks: only to questions of the same task.
    """
    groups = table.tasks if within_tasks else numpy.zeros(len(table))
    found = numpy.zeros(len(table))
    for group in numpy.unique(groups):
        own = groups == group
        counts = numpy.mean([numpy.bincount(one[own], minlength=len(table.chains)) for one in chosen], axis=0)
        found[own] = table.rewards[own] @ (counts / own.sum())
    return found
