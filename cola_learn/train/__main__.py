"""``python -m cola_learn.train``: train a controller on labels, through Lightning's own command line."""

import json
import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from cola_learn.backbone.load import Dtype
from cola_learn.cli import (
    UserError,
    console,
    digest,
    next_command,
    run_command,
    user_errors,
    writable_folder,
    write_text,
)
from cola_learn.tracking import Mode, Tracker
from cola_learn.train.data import LabelDataModule
from cola_learn.train.module import ControllerModule
from cola_learn.train.prior import PriorOptions, run_prior

DESCRIPTION = (
    "Train a controller that reads a prompt and writes a chain, on a label store. Everything Lightning's Trainer "
    "takes can be set under trainer. Example: python -m cola_learn.train --config configs/train/demo.yaml "
    "--labels runs/demo/labels --trainer.max_epochs 20. Also: python -m cola_learn.train prior --help."
)


class TrainCLI(LightningCLI):
    """Lightning's command line with the option names that all stages share."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--labels", type=Path, default=Path("runs/demo/labels"), help="folder of a label store")
        parser.add_argument("--output", type=Path, default=Path("runs/train"), help="folder for checkpoints and logs")
        parser.add_argument("--seed", type=int, default=0, help="of initialisation, batches and the split")
        parser.add_argument(
            "--tracking",
            type=Mode,
            default="auto",
            help="W&B: offline, online or disabled; auto is online with an API key, else offline",
        )
        parser.add_argument("--resume", type=bool, default=True, help="go on from OUTPUT/last.ckpt if it is there")
        parser.add_argument("--patience", type=int, default=8, help="epochs without a better val/loss before stopping")
        parser.add_argument("--limit", type=int | None, help="train on at most this many labelled questions")
        parser.add_argument("--backbone", type=str | None, help="default the one that the labels were made with")
        parser.add_argument("--device", default="auto", help="for prompt features: auto, cpu, cuda, cuda:1 or split")
        parser.add_argument(
            "--dtype", type=Dtype | None, help="for computing prompt features; default that of the labels"
        )
        for shared in ("labels", "limit", "backbone", "device", "dtype"):
            parser.link_arguments(shared, f"data.{shared}")
        parser.link_arguments("seed", "data.seed")
        parser.link_arguments("seed", "seed_everything")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        output = writable_folder(self.config.output)
        self.tracker = Tracker("train", self.config.tracking, output, self.config.as_dict())
        best = ModelCheckpoint(output, "best", monitor="val/loss", save_last=True, enable_version_counter=False)
        stop = EarlyStopping("val/loss", patience=self.config.patience)
        own = self.config_init.trainer.callbacks or []
        return super().instantiate_trainer(
            default_root_dir=str(output),
            logger=self.tracker.lightning_logger() or False,
            callbacks=[*own, best, stop, RichProgressBar()],
            **kwargs,
        )


def run_train(cli: TrainCLI) -> None:
    """Fit, or say that these settings and labels are fitted already; print the next commands."""
    output: Path = cli.config.output
    settings = {key: value for key, value in cli.config.as_dict().items() if key not in ("tracking", "config")}
    identity = digest(settings, *(file for store in cli.datamodule.stores for file in store.files()))
    finished = output / "finished.json"
    if cli.config.resume and finished.exists() and json.loads(finished.read_text())["identity"] == identity:
        console.print("train: done already with these settings and labels")
        cli.tracker.run.finish()
    else:
        with cli.tracker as tracker:
            result = _train(cli, tracker)
        write_text(finished, json.dumps({"identity": identity, "result": result}, indent=2) + "\n")
    console.print(json.loads(finished.read_text())["result"], soft_wrap=True)
    folder = output / "controller"
    export = f"python -m cola_learn.export --checkpoint {output / 'best.ckpt'} --output {folder}"
    if (cli.config.labels / "manifest.json").exists():
        evaluate = f"--config configs/evaluate/demo.yaml --controller {folder} --labels {cli.config.labels}"
    else:  # a folder of many tasks' stores
        evaluate = f"menu --labels {cli.config.labels} --controllers {folder}"
    next_command(export, f"python -m cola_learn.evaluate {evaluate}")


def _train(cli: TrainCLI, tracker: Tracker) -> str:
    last = cli.config.output / "last.ckpt"
    resume = str(last) if cli.config.resume and last.exists() else None
    if resume:
        console.print(f"going on from {last}", soft_wrap=True)
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=resume, weights_only=True)
    except RuntimeError as error:
        if resume is None or "state_dict" not in str(error):
            raise
        raise UserError(
            f"--output {cli.config.output} holds a checkpoint of another model; "
            "name another folder or use --resume false"
        ) from None
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # which Lightning turns into a silent exit
            raise end.__context__ from None
        raise
    checkpoint: Any = cli.trainer.checkpoint_callback
    score = float(checkpoint.best_model_score)
    tracker.summary({"best/val_loss": score})
    tracker.table("examples", ("labelled chains", "best chain", "written chain"), cli.model.examples())
    tracker.artifact("controller-checkpoint", "model", [Path(checkpoint.best_model_path)])
    assert cli.model.controller is not None
    count = sum(weight.numel() for weight in cli.model.controller.parameters())
    return (
        f"controller  {cli.config.output / 'best.ckpt'} ({count / 1e6:.1f} M parameters, best val/loss {score:.3f} "
        f"nats a prompt, {len(cli.datamodule.training)} prompts to train on, "
        f"{len(cli.datamodule.validation)} to validate on)"
    )


def main() -> None:
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    with user_errors():
        try:
            cli = TrainCLI(
                ControllerModule,
                LabelDataModule,
                run=False,
                auto_configure_optimizers=False,
                save_config_kwargs={"overwrite": True},
                trainer_defaults={"max_epochs": 30, "enable_model_summary": False},
                parser_kwargs={
                    "prog": "python -m cola_learn.train",
                    "description": DESCRIPTION,
                    "exit_on_error": False,
                },
            )
        except ArgumentError as error:
            linked = re.match(r"argument (\S+) --> (\S+):", error.message)
            reason = f"--{linked[2]} follows --{linked[1]}; give that one" if linked else error.message
            raise UserError(f"{reason} (see python -m cola_learn.train --help)") from None
        run_train(cli)


if __name__ == "__main__":
    if sys.argv[1:2] == ["prior"]:
        del sys.argv[1]
        run_command(
            PriorOptions,
            run_prior,
            "cola_learn.train prior",
            "Write which edits a controller would choose for each question, to guide a search with.",
        )
    else:
        main()
