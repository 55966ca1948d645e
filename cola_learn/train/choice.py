"""The rule by which a controller chooses among the chains of a menu, its calibration, and whether choices collapse."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy
from numpy.typing import NDArray
from torch import Tensor

from cola_learn.errors import UserError

Decides = Literal["probability", "gain"]


@dataclass(frozen=True)
class ChoiceRule:
    """How a chain is chosen.

    Attributes:
        decides: the chain most probably written, or the one of the highest predicted gain.
        priced: whether a price of depth changes what is chosen.
        price: of depth, unless another is given: the gain that N layers, all of the base chain, are worth.
        gain_scale: what predicted gains are multiplied with, so that they are true on validation questions.
        shifts: what is then added to those of each chain of the menu, for the same reason; none adds nothing.
        threshold: the base chain runs unless another's predicted gain, with what its depth saves, exceeds this.
    """

    decides: Decides = "probability"
    priced: bool = False
    price: float = 0.0
    gain_scale: float = 1.0
    shifts: tuple[float, ...] = ()
    threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gain_scale", "threshold", "price"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}, not a finite number")
        if not all(map(math.isfinite, self.shifts)):
            raise ValueError(f"shifts are {self.shifts}, not finite numbers")

    @property
    def own_price(self) -> float | None:
        """The price of depth that counts where none is given; None for a controller that knows none."""
        return self.price if self.priced else None

    def check_price(self, price: float, source: Path | str) -> None:
        """Refuse a price that the controller of ``source`` was not trained for, or that would pay for depth.

        Raises:
            UserError: saying which.
        """
        if not self.priced:
            raise UserError(f"--price {price:g}: {source} was trained without a depth price; remove --price")
        if not 0 <= price < math.inf:
            raise UserError(f"--price {price:g} is no price; give 0 or more")

    def calibrated(self, gains: Tensor) -> Tensor:
        """Predicted gains ``[B, C]`` made true."""
        scaled = gains * self.gain_scale
        return scaled + scaled.new_tensor(self.shifts) if self.shifts else scaled


FEWEST = 30  # questions that a bound is taken of
CUTS = 20  # thresholds that are tried

Array = NDArray[numpy.float64]


class Rule(NamedTuple):
    """When a predicted gain is acted upon.

    Attributes:
        gain_scale: what predicted gains are multiplied with: the slope of realised on predicted ones within chains, 0
            where they do not go together.
        shifts: what is added to the gain of each chain, so that its mean is the realised one.
        threshold: what a chain must promise to gain, so calibrated, to be run instead of the base chain.
    """

    gain_scale: float
    shifts: tuple[float, ...]
    threshold: float


def calibrate(predicted: Array, realised: Array, error_rate: float, means: Array | None = None) -> Rule:
    """Calibrate predicted gains and choose the abstention threshold.

    A network's predictions differ between prompts by more than they should, and drown what is surely known: how much a
    chain gains on average. So each chain's predictions get the mean that it really has, and are drawn towards it by one
    factor for all. Where prompts tell nothing, that leaves the best static chain.

    Args:
        predicted: gain of every chain of the menu over the base chain, ``[Q, C]``, base chain first.
        realised: what each really gained, ``[Q, C]``.
        error_rate: of the one-sided bound, spread over the thresholds that are tried (Bonferroni).
        means: of the gains of every chain over more questions, ``[C]``; default those realised here.

    Returns:
        The rule whose threshold is the lowest such that the questions whose best chain promises more really gained: the
        lower confidence bound of their mean is above 0. It is 1e9, always the base chain, if there is none; 0 where the
        error rate is 1.
    """
    from scipy import stats  # slow to import, as scikit-learn is
    from sklearn.linear_model import LinearRegression

    told, came = (table[:, 1:] - table[:, 1:].mean(0) for table in (predicted, realised))
    slope = LinearRegression(fit_intercept=False).fit(told.reshape(-1, 1), came.reshape(-1)).coef_[0]
    scale = max(0.0, float(slope))
    shifts = (realised.mean(0) if means is None else means) - scale * predicted.mean(0)
    shifts[0] = 0.0
    promised = scale * predicted + shifts
    best, most = promised.argmax(1), promised.max(1)
    gained = numpy.take_along_axis(realised, best[:, None], 1)[:, 0]
    rule = Rule(scale, tuple(shifts.tolist()), 0.0)
    if error_rate >= 1:
        return rule
    for cut in numpy.unique(numpy.quantile(most, numpy.linspace(0, 1, CUTS, endpoint=False))):
        acted = gained[(most > max(cut, 0.0)) & (best > 0)]
        if len(acted) >= FEWEST and acted.std() > 0:
            quantile = stats.t.ppf(1 - error_rate / CUTS, len(acted) - 1)
            if acted.mean() - quantile * acted.std(ddof=1) / len(acted) ** 0.5 > 0:
                return rule._replace(threshold=max(float(cut), 0.0))
    return rule._replace(threshold=1e9)


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
