"""The rule by which a controller chooses among the chains of a menu."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
