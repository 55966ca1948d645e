"""ControllerConfig: shape, inputs and provenance of a controller."""

import math
from dataclasses import dataclass, field
from typing import Literal

from cola_learn.chains import Chain, SearchSpace
from cola_learn.errors import UserError
from cola_learn.tasks.questions import Kind

MAX_TOKENS = 256
"""What a controller reads: of a longer prompt its special tokens and the last ones."""


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
        pooling: attend to every token of the prompt, or read principal components of their mean and last token.
        components: how many; those of the training prompts, which the controller holds fixed.
        menu: chains to choose among, the base chain first; with none it writes any chain of the space.
        objective: what it was trained for.
        kind: of what it was trained on: questions with choices, open ones, or prompts with responses.
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
    objective: str = ""
    kind: Kind = "choices"

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
        if not math.isfinite(self.dropout):
            raise ValueError(f"dropout is {self.dropout}, not a finite number")

    def check_backbone(self, num_layers: int, fingerprint: str, name: str) -> None:
        """Refuse a backbone that this controller was not trained for.

        Raises:
            UserError: naming what differs.
        """
        if self.num_layers != num_layers:
            raise UserError(
                f"the controller is for {self.num_layers} layers; backbone {name} has {num_layers}; "
                f"use --backbone {self.backbone}"
            )
        if self.fingerprint != fingerprint:
            raise UserError(
                f"the controller was trained for backbone {self.backbone} ({self.fingerprint}), "
                f"not {name} ({fingerprint}); use --backbone {self.backbone}"
            )
