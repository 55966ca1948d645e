"""The configuration of an exported controller, as transformers' Auto classes read it."""

from typing import Any

from transformers import PreTrainedConfig

_OF_BACKBONE = (
    *("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)


class ColaConfig(PreTrainedConfig):
    """What ``config.json`` of an exported controller says, for transformers' Auto classes.

    Attributes:
        controller: fields of a ``ControllerConfig``.
        rule: fields of its choice rule.
        backbone: fields of the backbone's own configuration; empty until it is loaded, as are those of it that stand
            here too, for programs that ask for them.
    """

    model_type = "cola"
    controller: dict[str, Any] | None = None
    rule: dict[str, Any] | None = None
    backbone: dict[str, Any] | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    @classmethod
    def of_backbone(cls, config: PreTrainedConfig) -> "ColaConfig":
        """The configuration of a controller's model around a backbone."""
        text = config.get_text_config(decoder=True)
        found = cls(backbone=config.to_dict(), name_or_path=config.name_or_path)
        for field in _OF_BACKBONE:
            setattr(found, field, getattr(text, field, None))
        return found
