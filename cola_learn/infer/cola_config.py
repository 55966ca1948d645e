"""The configuration of an exported controller, as transformers' Auto classes read it."""

from typing import Any

from transformers import PreTrainedConfig


class ColaConfig(PreTrainedConfig):
    """What ``config.json`` of an exported controller says, for transformers' Auto classes.

    Attributes:
        controller: fields of a ``ControllerConfig``.
        rule: fields of its choice rule.
        backbone: fields of the backbone's own configuration; empty until it is loaded.
    """

    model_type = "cola"
    controller: dict[str, Any] | None = None
    rule: dict[str, Any] | None = None
    backbone: dict[str, Any] | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
