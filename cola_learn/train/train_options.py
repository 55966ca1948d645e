"""Options of the train stage, beside those of Lightning, the module and the data module."""

from dataclasses import dataclass, field
from pathlib import Path

from cola_learn.backbone.dtypes import Dtype
from cola_learn.tracking import Mode, Wandb

ABOUT = (
    "Train a controller that reads a prompt and writes a chain, on a label store. Everything that Lightning's Trainer "
    "takes can be set under trainer, what the controller is under model, how labels are read under data."
)


@dataclass(frozen=True)
class TrainOptions:
    """Options of python -m cola_learn.train.

    Attributes:
        labels: folder of a label store, or of several.
        extra_labels: more labels to train on, such as a search's beside those of a menu.
        output: folder for checkpoints and logs.
        limit: train on only this many labelled questions, sampled with the seed.
        patience: early stopping: epochs without a better val/loss.
        resume: resume from OUTPUT/last.ckpt if it exists.
        seed: random seed for initialisation, batches and the validation split.
        tracking: W&B online, offline or disabled; auto follows WANDB_MODE, else is online when logged in, else offline.
        wandb: project, entity, group, name, tags and notes of the W&B run.
        backbone: default the one that the labels were made with.
        device: where prompt features are computed: auto, cpu, cuda, cuda:1 or split.
        dtype: precision of prompt features; default that of the labels.
    """

    labels: Path = Path("runs/demo/labels")
    extra_labels: Path | None = None
    output: Path = Path("runs/train")
    limit: int | None = None
    patience: int = 8
    resume: bool = True
    seed: int = 0
    tracking: Mode = "auto"
    wandb: Wandb = field(default_factory=Wandb)
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype | None = None
