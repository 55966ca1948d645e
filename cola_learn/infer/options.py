"""What infer and export can be told."""

from dataclasses import dataclass, field
from pathlib import Path

from cola_learn.backbone.options import Decoding, Dtype


@dataclass(frozen=True)
class InferOptions:
    """Options of python -m cola_learn.infer.

    Attributes:
        question: what to ask.
        controller: folder of an exported controller.
        chain: run this chain instead of one that a controller chooses, such as "0-17 20-29".
        price: of depth: the gain in the probability of a right answer that all layers of the plain model are worth;
            more of it makes chains shorter. Default the controller's own.
        choices: answer by scoring these options, for example rust gold, instead of writing freely.
        backbone: default the one that the controller was trained for, or embedded.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        decoding: how a freely written answer is written: most tokens, temperature (0 is greedy), stop texts ...
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
        checkpoint: a checkpoint that python -m cola_learn.train wrote, for example runs/demo/train/best.ckpt.
        output: folder to write, for example checkpoints/arc-easy.
        chain: write the backbone with this chain of layers for all inputs instead, such as "0-17 20-29": an ordinary
            Hugging Face checkpoint, which needs no code of ours.
        static: the same with the best static chain that was found: that of an evaluation (its report.json) or, of a
            label store, the one with the highest mean probability of the gold option on its questions.
        max_depth: of static, from labels: at most so many layers; default all.
        backbone: of a static chain: embedded, a Hugging Face id, or a folder; default that of the labels or report.
        device: where chains are compared, for static from labels.
        dtype: of the weights of such a checkpoint; auto is that of the backbone's own.
        price: of depth, for a controller of a menu, where none is given when it is used: more of it makes chains
            shorter; python -m cola_learn.evaluate menu shows what each price gives. Default that of training.
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
