"""Options of export."""

from dataclasses import dataclass, field
from pathlib import Path

from cola_learn.backbone.dtypes import Dtype
from cola_learn.tracking import Mode, Wandb


@dataclass(frozen=True)
class ExportOptions:
    """Options of ``python -m cola_learn.export``.

    Attributes:
        checkpoint: export the controller of this checkpoint, for example runs/demo/train/best.ckpt; a folder is an
            exported controller, to be written anew.
        report: for controllers: the evaluation (its folder or report.json) whose results the card shows.
        output: folder to write.
        chain: instead, export the backbone with this static chain, such as "0-17 20-29", as an ordinary Hugging Face
            checkpoint.
        static: the same with the best static chain of an evaluation (its folder or report.json; the highest accuracy)
            or of labels (a store, or a folder of stores; the highest mean log-probability of the gold option).
        max_depth: for --static: at most this many layers.
        backbone: for static chains: embedded, a Hugging Face id, or a folder; default that of the labels or report.
        device: for --static LABELS: where chains are compared.
        dtype: for static chains: precision of the weights; auto keeps the backbone's.
        gguf: for static chains: write this GGUF file too, with llama.cpp's convert_hf_to_gguf.py.
        price: for controllers: default price of depth at inference; python -m cola_learn.evaluate shows what each
            price gives.
        tracking: for controllers of a checkpoint: W&B online, offline or disabled; auto follows WANDB_MODE, else is
            online when logged in, else offline.
        wandb: project, entity, group, name, tags and notes of the W&B run.
    """

    output: Path
    checkpoint: Path | None = None
    report: Path | None = None
    chain: str | None = None
    static: Path | None = None
    max_depth: int | None = None
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype = "auto"
    gguf: Path | None = None
    price: float | None = None
    tracking: Mode = "auto"
    wandb: Wandb = field(default_factory=Wandb)

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.checkpoint, self.chain, self.static)) != 1:
            raise ValueError(
                "give --checkpoint for a controller, or --chain or --static for a static chain; one of them"
            )
        if self.checkpoint is None and self.price is not None:
            raise ValueError(f"--price {self.price:g} is for a controller; a static chain has none")
        if self.checkpoint is None and self.report is not None:
            raise ValueError(f"--report {self.report} is for a controller; --static takes a report for a static chain")
        if self.checkpoint is not None and self.gguf is not None:
            raise ValueError(f"--gguf {self.gguf} is for a static chain; a controller is no part of a GGUF file")
        if self.static is None and self.max_depth is not None:
            raise ValueError(f"--max_depth {self.max_depth} is for --static")
