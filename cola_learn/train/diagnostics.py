"""Collapse diagnostics: whether a controller chooses the base chain, one chain, or one chain per task."""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray


@dataclass(frozen=True)
class Choices:
    """What was chosen of a menu's C chains for Q questions.

    Attributes:
        chosen: index of the chosen chain, ``[Q]``.
        gains: of every chain over the base chain in soft reward, ``[Q, C]``.
        depths: of every chain, as a share of the base chain's, ``[C]``.
        tasks: of the questions, ``[Q]``.
    """

    chosen: NDArray[numpy.int64]
    gains: NDArray[numpy.float64]
    depths: NDArray[numpy.float64]
    tasks: NDArray[numpy.str_]

    @property
    def gain(self) -> float:
        """Mean gain of what was chosen."""
        return float(self.gains[numpy.arange(len(self.chosen)), self.chosen].mean())

    @property
    def depth(self) -> float:
        """Mean depth of what was chosen, as a share of the base chain's."""
        return float(self.depths[self.chosen].mean())


def collapse(choices: Choices, seed: int = 0) -> dict[str, float]:
    """Diagnostics: the share of prompts sent to the base chain and to the most chosen chain, entropy of the chosen
    chains and their mutual information with the tasks (bits), agreement with the best static chain of no more depth,
    and the mean gain if every prompt got another's chain.
    """
    from sklearn.metrics import mutual_info_score  # slow to import

    shares = numpy.bincount(choices.chosen, minlength=len(choices.depths)) / len(choices.chosen)
    some = shares[shares > 0]
    means = numpy.where(choices.depths <= choices.depth + 1e-9, choices.gains.mean(0), -numpy.inf)
    shuffled = numpy.random.default_rng(seed).permutation(choices.chosen)
    return {
        "base_share": float(shares[0]),
        "largest_share": float(shares.max()),
        "entropy_bits": float(-(some * numpy.log2(some)).sum()),
        "task_information_bits": float(mutual_info_score(choices.tasks, choices.chosen) / numpy.log(2)),
        "static_agreement": float(shares[int(means.argmax())]),
        "shuffled_gain": float(choices.gains[numpy.arange(len(shuffled)), shuffled].mean()),
    }
