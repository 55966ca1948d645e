"""What a controller's shape, inputs and choices depend on."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cola_learn.chains import Chain, SearchSpace
from cola_learn.errors import UserError


@dataclass(frozen=True)
class ControllerConfig:
    """Everything that a controller's shape and inputs depend on.

    Attributes:
        num_layers, hidden_size: N and H of the backbone.
        space: the search space that it writes chains of.
        feature_layers: after how many layers of the backbone the prompt is read; 0 is the embedding layer.
        width, blocks, heads: size of the decoder.
        dropout: while training.
        backbone, fingerprint: the model it was trained for.
        special_tokens: written before every prompt that it was trained on, as text.
        pooling: attend to every token of the prompt, or read principal components of their mean.
        components: how many; those of the training prompts, which the controller holds fixed.
        menu: chains to choose among, the base chain first; with none it writes any chain of the space.
        decision: of the menu, the chain most probably written, or the one of the highest value.
        gain_scale: what predicted gains are multiplied with, so that they are true on validation questions.
        threshold: the base chain runs unless another's predicted gain, with what its depth saves, exceeds this.
        price: of depth, unless another is given: the gain that N layers, all of the base chain, are worth.
        objective: what it was trained for.
    """

    num_layers: int
    hidden_size: int
    space: SearchSpace = field(default_factory=SearchSpace)
    feature_layers: tuple[int, ...] = (0,)
    width: int = 128
    blocks: int = 2
    heads: int = 4
    dropout: float = 0.1
    backbone: str = ""
    fingerprint: str = ""
    special_tokens: str = ""
    pooling: Literal["attend", "components"] = "attend"
    components: int = 64
    menu: tuple[str, ...] = ()
    decision: Literal["write", "value"] = "write"
    gain_scale: float = 1.0
    threshold: float = 0.0
    price: float = 0.0
    objective: str = ""

    def __post_init__(self) -> None:
        largest = {"num_layers": 4096, "hidden_size": 2**17, "width": 2**14, "blocks": 256, "heads": 2**10}
        for name, most in {**largest, "components": 2**14}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 to {most}")
        if self.width % self.heads:
            raise ValueError(f"heads is {self.heads}; give a divisor of width {self.width}")
        if not self.feature_layers or not all(0 <= layer <= self.num_layers for layer in self.feature_layers):
            raise ValueError(f"feature_layers is {self.feature_layers}; give some of 0 to {self.num_layers}")
        chains = [Chain.parse(text, self.num_layers) for text in self.menu]
        if chains and not chains[0].is_base:
            raise ValueError(f"menu begins with {self.menu[0]}, not with the base chain")
        if self.decision == "value" and not self.menu:
            raise ValueError("decision is value, but there is no menu")
        for name in ("gain_scale", "threshold", "price", "dropout"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}, not a finite number")

    @property
    def heeds_price(self) -> bool:
        """Whether a price of depth changes what it chooses."""
        return self.objective not in ("", "imitation")

    def check_price(self, price: float, source: Path | str) -> None:
        """Refuse a price that the controller of ``source`` does not heed, or that would pay for depth.

        Raises:
            UserError: saying which.
        """
        if not self.heeds_price:
            raise UserError(f"--price {price:g}: {source} was trained without a depth price; remove --price")
        if not 0 <= price < math.inf:
            raise UserError(f"--price {price:g} is no price; give 0 or more")
