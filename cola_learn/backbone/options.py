"""Options of backbones and decoding; importing them loads no model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cola_learn.errors import UserError

if TYPE_CHECKING:
    from transformers import LogitsProcessorList

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Bos = Literal["auto", "yes", "no"]


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen and when a row ends, beside the model's end-of-text token.

    Attributes:
        max_new_tokens: most tokens a row writes.
        temperature: 0 takes the most probable token; above, logits are divided by it and a token is drawn.
        top_k: draw among this many most probable tokens; 0 among all.
        top_p: draw among the most probable tokens that have this probability together.
        stop: a row ends with the token that completes one of these texts; the text stays.
        seed: random seed; each row has a generator of its own, so a batch samples what its rows sample alone.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens {self.max_new_tokens} writes nothing; give at least 1")
        if self.temperature < 0:
            raise UserError(f"temperature {self.temperature} is negative; give 0 for greedy or a positive number")
        if self.top_k < 0:
            raise UserError(f"top_k {self.top_k} is negative; give 0 for all tokens or a positive number")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p} is not a probability above 0; give at most 1")

    def warpers(self) -> "LogitsProcessorList":
        """What transformers does to logits for this temperature, top-k and top-p."""
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        if not self.temperature:
            return LogitsProcessorList()
        chosen: list[Any] = [TemperatureLogitsWarper(self.temperature)] if self.temperature != 1 else []
        chosen += [TopKLogitsWarper(self.top_k)] if self.top_k else []
        chosen += [TopPLogitsWarper(self.top_p)] if self.top_p < 1 else []
        return LogitsProcessorList(chosen)
