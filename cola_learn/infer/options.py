"""What infer and export can be told."""

from dataclasses import dataclass, field
from pathlib import Path

from cola_learn.backbone.options import Decoding, Dtype


@dataclass(frozen=True)
class InferOptions:
    """Options of python -m cola_learn.infer.

    Attributes:
        question: the question.
        controller: exported controller: folder or hub id.
        chain: run this chain instead of one that a controller chooses, such as "0-17 20-29".
        price: price of depth: higher means shorter chains. It is the gain in the probability of a right answer that all
            layers together are worth; default the controller's own.
        choices: score these options instead of generating, for example: --choices rust gold.
        backbone: default the one that the controller was trained for, or embedded.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        decoding: generation options: max_new_tokens, temperature (0 is greedy), top_k, top_p, stop, seed.
    """

    question: str
    controller: Path | None = None
    chain: str | None = None
    price: float | None = None
    choices: list[str] | None = None
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype = "auto"
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=48))

    def __post_init__(self) -> None:
        if (self.controller is None) == (self.chain is None):
            raise ValueError("give --controller to have a chain chosen, or --chain to run one, one of them")
        if self.chain is not None and self.price is not None:
            raise ValueError(f"--price {self.price:g} is for a controller; --chain chooses nothing")


@dataclass(frozen=True)
class ExportOptions:
    """Options of ``python -m cola_learn.export``.

    Attributes:
        checkpoint: export the controller of this checkpoint, for example runs/demo/train/best.ckpt.
        output: folder to write.
        chain: instead, export the backbone with this static chain, such as "0-17 20-29", as an ordinary Hugging Face
            checkpoint.
        static: the same with the best static chain of an evaluation (its folder or report.json) or of a label store
            (the highest mean probability of the gold option).
        max_depth: for --static LABELS: at most this many layers.
        backbone: for static chains: embedded, a Hugging Face id, or a folder; default that of the labels or report.
        device: for --static LABELS: where chains are compared.
        dtype: for static chains: precision of the weights; auto keeps the backbone's.
        price: for controllers: default price of depth at inference; python -m cola_learn.evaluate menu shows what each
            price gives.
    """

    output: Path
    checkpoint: Path | None = None
    chain: str | None = None
    static: Path | None = None
    max_depth: int | None = None
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype = "auto"
    price: float | None = None

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.checkpoint, self.chain, self.static)) != 1:
            raise ValueError(
                "give --checkpoint for a controller, or --chain or --static for a static chain; one of them"
            )
        if self.checkpoint is None and self.price is not None:
            raise ValueError(f"--price {self.price:g} is for a controller; a static chain has none")
        if self.static is None and self.max_depth is not None:
            raise ValueError(f"--max_depth {self.max_depth} is for --static")
