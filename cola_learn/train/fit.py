"""Training a controller on labels, through Lightning's own command line."""

import json
import logging
import os
import re
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from cola_learn.command import user_errors
from cola_learn.console import console, next_command
from cola_learn.errors import UserError, first_line
from cola_learn.files import digest, locked, read_json, writable_folder, write_json
from cola_learn.label.store import LabelStore
from cola_learn.tracking import Mode, Tracker
from cola_learn.train.checkpoints import SealedCheckpointIO, usable
from cola_learn.train.data import LabelDataModule
from cola_learn.train.hub import checkpoint_artifact
from cola_learn.train.module import ControllerModule
from cola_learn.train.next_stage import evaluate_command, hold_out
from cola_learn.train.train_options import ABOUT, TrainOptions


class TrainCLI(LightningCLI):
    """Lightning's command line with the option names that all stages share."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(TrainOptions, as_group=False)
        for shared in ("labels", "extra_labels", "limit", "backbone", "device", "dtype"):
            parser.link_arguments(shared, f"data.{shared}")
        parser.link_arguments("seed", "data.seed")
        parser.link_arguments("seed", "seed_everything")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        seed, patience, trainer = self.config.seed, self.config.patience, self.config.trainer
        if not 0 <= seed < 2**32:
            raise UserError(f"--seed {seed} is no seed; give 0 to {2**32 - 1}")
        if patience < 0:
            raise UserError(f"--patience {patience} is negative; give the number of epochs to wait, 0 or more")
        if os.environ.get("WANDB_SWEEP_ID") and (trial := os.environ.get("WANDB_RUN_ID")):
            self.config.output = self.config.output / trial  # a folder for each trial of a sweep
        for name in ("max_epochs", "max_steps"):
            if trainer[name] is not None and (trainer[name] == 0 or trainer[name] < -1):
                raise UserError(f"--trainer.{name} {trainer[name]} trains nothing; give at least 1, or -1 for no limit")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer that the options ask for, with our checkpoints, early stopping and W&B run beside a user's own
        callbacks and loggers."""
        output = writable_folder(self.config.output)
        self.first = int(os.environ.get("LOCAL_RANK", 0)) == 0  # of several processes, the one that speaks and writes
        mode: Mode = "disabled"
        if self.first:
            mode = self.config.tracking
        asked, wandb = self.config_init.trainer, self.config_init.wandb
        self.tracker = Tracker("train", mode, output, self.config.as_dict(), wandb, step="trainer/global_step")
        self.best = self.last = None
        callbacks: list[Any] = list(asked.callbacks or [])
        if asked.enable_checkpointing is not False:
            self.best = ModelCheckpoint(output, "best", monitor="val/loss", enable_version_counter=False)
            self.last = ModelCheckpoint(
                output, "last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
            )
            callbacks += [self.best, self.last]
        callbacks.append(EarlyStopping("val/loss", patience=self.config.patience))
        if asked.enable_progress_bar is not False:
            callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
        plugins = asked.plugins if isinstance(asked.plugins, list) else [asked.plugins] if asked.plugins else []
        own = {
            "default_root_dir": str(output),
            "logger": self._loggers(asked.logger, output),
            "callbacks": callbacks,
            "plugins": [*plugins, SealedCheckpointIO()],
        }
        try:
            return super().instantiate_trainer(**own, **kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise UserError(f"--trainer: {first_line(error)}") from None

    def _loggers(self, asked: Any, output: Path) -> Any:
        """Our W&B run beside the loggers that the user asks for; none at all for ``false``."""
        if asked is False:
            return False
        own = self.tracker.lightning_logger()
        if asked is True:
            asked = CSVLogger(str(output))
        others = asked if isinstance(asked, list | tuple) else [asked] if asked else []
        return [*([own] if own else []), *others] or False


_MAY_CHANGE = ("output", "resume", "patience", "tracking", "wandb", "config", "device")
_SHAPES_TRAINING = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")


def identity(cli: TrainCLI) -> dict[str, Any]:
    """What a training depends on, by the name of its option; more epochs and patience may follow later."""
    settings = {name: value for name, value in cli.config.as_dict().items() if name not in (*_MAY_CHANGE, "trainer")}
    trainer = cli.config.trainer.as_dict()
    settings["trainer"] = {name: trainer.get(name) for name in _SHAPES_TRAINING}
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}.{own}".rstrip("."): one for own, one in inner.items()}
    for placed in ("labels", "extra_labels"):
        del flat[placed], flat[f"data.{placed}"]
    del flat["data.device"]
    flat["labels"] = digest({}, *(file for store in _stores(cli) for file in store.files()))
    found: dict[str, Any] = json.loads(json.dumps(flat, default=str, sort_keys=True))
    return found


def _stores(cli: TrainCLI) -> list[LabelStore]:
    return [*cli.datamodule.stores, *cli.datamodule.extra_stores]


def check_resume(output: Path, own: dict[str, Any]) -> Path | None:
    """The checkpoint in ``output`` to go on from, if there is one.

    Raises:
        UserError: if it is of a training with other settings or labels, naming what differs.
    """
    last, record = output / "last.ckpt", output / "training.json"
    if not usable(last):
        return None
    ways = "name another --output, or give --resume false to begin anew there"
    try:
        before = read_json(record)
        names = sorted(before.keys() | own.keys())
    except (OSError, ValueError):
        raise UserError(f"--output {output} holds a checkpoint without a record of its training; {ways}") from None
    for name in names:
        if before.get(name) != own.get(name):
            what = "other labels" if name == "labels" else f"{name} {before.get(name)}, not {own.get(name)}"
            raise UserError(f"--output {output} holds a training with {what}; {ways}")
    return last


def run_train(cli: TrainCLI) -> None:
    """Fit, or say that these settings and labels are fitted already; print the next commands.

    Raises:
        UserError: for a folder that another run holds or that holds another training, or an objective that the labels
            are not for.
    """
    cli.model.menu_of(cli.datamodule)
    with locked(cli.config.output) if cli.first else nullcontext():
        _run_train(cli, cli.config.output)


def _run_train(cli: TrainCLI, output: Path) -> None:
    own = identity(cli)
    last = check_resume(output, own) if cli.config.resume else None
    name = digest({**own, "trainer": cli.config.trainer.as_dict(), "patience": cli.config.patience})
    finished = output / "finished.json"
    result = _finished(finished, name) if last else None
    if result and not usable(output / "best.ckpt"):
        console.print("train: beginning anew, since its result is not there any more")
        result = last = None
    if result:
        console.print("train: done already with these settings and labels")
    else:
        if cli.first:
            write_json(output / "training.json", own)
        with cli.tracker as tracker:
            for store in _stores(cli):
                tracker.input(store.artifact())
            result = _train(cli, tracker, last)
        if cli.first and cli.best and cli.best.best_model_path:
            write_json(finished, {"identity": name, "result": result})
    if not cli.first:
        return
    console.print(result, soft_wrap=True)
    if not (output / "best.ckpt").exists():
        return
    folder = output / "controller"
    export = ["python -m cola_learn.export", "--checkpoint", output / "best.ckpt", "--output", folder]
    evaluate = evaluate_command(folder, cli.config.labels)
    next_command(export, *([evaluate] if evaluate else []))
    if not evaluate:
        console.print(hold_out(folder, cli.config.labels), soft_wrap=True)


def _finished(file: Path, name: str) -> str | None:
    """What a training of this name came to, if it is finished."""
    try:
        record = read_json(file)
        return str(record["result"]) if record["identity"] == name else None
    except (OSError, ValueError, KeyError):
        return None


def _train(cli: TrainCLI, tracker: Tracker, last: Path | None) -> str:
    if last and cli.first:
        console.print(f"going on from {last}", soft_wrap=True)
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=last and str(last), weights_only=True)
    except MisconfigurationException as error:
        if "current_epoch" not in str(error):
            raise UserError(f"--trainer: {first_line(error)}") from None
        raise UserError(
            f"--trainer.max_epochs {cli.trainer.max_epochs} is fewer than {last} was trained for; give more, another "
            "--output, or --resume false"
        ) from None
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # which Lightning turns into a silent exit
            raise end.__context__ from None
        raise
    assert cli.model.controller is not None
    count = sum(weight.numel() for weight in cli.model.controller.parameters())
    sizes = (
        f"{count / 1e6:.1f} M parameters, {len(cli.datamodule.training)} prompts to train on, "
        f"{len(cli.datamodule.validation)} to validate on"
    )
    if not cli.best or cli.best.best_model_score is None:
        why = "checkpoints are off" if not cli.best else "no epoch was validated"
        return f"no checkpoint was written: {why} ({sizes})"
    score = float(cli.best.best_model_score)
    if cli.first:
        tracker.summary({"best/val_loss": score})
        tracker.table("examples", ("labelled chains", "best chain", "written chain"), cli.model.examples())
        config = cli.model.controller.config
        tracker.output(checkpoint_artifact(Path(cli.best.best_model_path), config))
    return f"controller  {cli.best.best_model_path} (best val/loss {score:.3f}, {sizes})"


def fit(name: str, arguments: Sequence[str]) -> None:
    """Train as Lightning's command line says."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    with user_errors():
        try:
            cli = TrainCLI(
                ControllerModule,
                LabelDataModule,
                run=False,
                args=list(arguments),
                auto_configure_optimizers=False,
                save_config_kwargs={"overwrite": True},
                trainer_defaults={"max_epochs": 30, "enable_model_summary": False, "use_distributed_sampler": False},
                parser_kwargs={
                    "prog": f"python -m {name}",
                    "description": ABOUT,
                    "exit_on_error": False,
                },
            )
        except ArgumentError as error:
            linked = re.match(r"argument (\S+) --> (\S+):", error.message)
            reason = f"--{linked[2]} follows --{linked[1]}; give that one" if linked else error.message
            raise UserError(f"{reason} (see python -m cola_learn.train --help)") from None
        run_train(cli)
