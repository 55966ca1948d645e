"""Options of infer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cola_learn.backbone.dtypes import Dtype
from cola_learn.command import GROUP
from cola_learn.errors import UserError
from cola_learn.tasks.columns import Layout


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen and when a row ends, beside the model's end-of-text token.

    Attributes:
        max_new_tokens: most tokens a row writes.
        temperature: 0 takes the most probable token; above, logits are divided by it and a token is drawn.
        top_k: draw among this many most probable tokens; 0 among all.
        top_p: draw among the most probable tokens that have this probability together.
        stop: a row ends with the token that completes one of these texts; the text stays.
        seed: random seed of a batch.
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

    def settings(self) -> dict[str, Any]:
        """The same for transformers' ``generate``."""
        found: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "do_sample": self.temperature > 0}
        if self.temperature:
            found |= {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return found | ({"stop_strings": list(self.stop)} if self.stop else {})


@dataclass(frozen=True)
class InferOptions:
    """Options of python -m cola_learn.infer.

    Attributes:
        question: one question; prints the chain and the answers.
        questions: instead, answer a file of questions, read as label reads files; where there are options, these are
            scored.
        output: JSONL file for the rows of --questions with chain, layers and response; an unfinished one is resumed.
        batch: how many rows of --questions are answered together.
        chat: instead, hold a conversation.
        compare: in a chat, show the plain model's answer too.
        controller: exported controller: folder or hub id.
        chain: run this chain instead of one that a controller chooses, such as "0-17 20-29".
        draft: the chain only drafts: the text is the plain model's own, token for token (assisted decoding).
        price: price of depth: higher means shorter chains. It is the gain in the log-probability of a right answer
            (nats) that all layers together are worth; default the controller's own.
        choices: score these options instead of generating, for example: --choices rust gold.
        backbone: default the one that the controller was trained for, or embedded.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        decoding: generation options: max_new_tokens, temperature (0 is greedy), top_k, top_p, stop, seed.
        template_options: of the model's chat template, such as {"enable_thinking": false}.
        layout: how a file is read.
    """

    question: str | None = None
    questions: Path | None = None
    output: Path | None = None
    batch: int = 16
    chat: bool = False
    compare: bool = False
    controller: Path | None = None
    chain: str | None = None
    draft: bool = False
    price: float | None = None
    choices: list[str] | None = None
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype = "auto"
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=256))
    template_options: dict[str, Any] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout, metadata=GROUP)

    def __post_init__(self) -> None:
        if (self.question is not None) + (self.questions is not None) + self.chat != 1:
            raise ValueError("give a question, a file of --questions, or --chat; one of them")
        if (self.questions is None) != (self.output is None):
            raise ValueError("--questions FILE and --output FILE belong together")
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; give at least 1")
        if self.choices is not None and self.question is None:
            raise ValueError("--choices is for one question; a file has a column of choices")
        if self.compare and not self.chat:
            raise ValueError("--compare is for --chat")
        if (self.controller is None) == (self.chain is None):
            raise ValueError("give --controller to have a chain chosen, or --chain to run one, one of them")
        if self.chain is not None and self.price is not None:
            raise ValueError(f"--price {self.price:g} is for a controller; --chain chooses nothing")
