"""What --help promises under trainer holds, and no training goes on from another one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cola_learn.train.data import LengthBatches

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small stores of other questions."""
    folders = []
    for seed in ("0", "1"):
        folder = tmp_path_factory.mktemp("stores") / "labels"
        arguments = [
            "--limit",
            "12",
            "--seed",
            seed,
            "--search.simulations",
            "6",
            "--neighbours",
            "0",
            "--luck",
            "false",
        ]
        more = ["--verify", "off", "--tracking", "disabled", "--output", str(folder)]
        subprocess.run([sys.executable, "-m", "cola_learn.label", *arguments, *more], check=True, capture_output=True)
        folders.append(folder)
    return folders


def options(labels: Path, output: Path, *more: str) -> list[str]:
    small = ["--model.width", "16", "--model.blocks", "1", "--model.heads", "2", "--tracking", "disabled"]
    return ["--labels", str(labels), "--output", str(output), "--trainer.max_epochs", "3", *small, *more]


WORKS: dict[str, tuple[list[str], str]] = {
    "as it is": ([], r"controller  .*best.ckpt \(best val/loss"),
    "fast_dev_run": (["--trainer.fast_dev_run", "true"], "no checkpoint was written: no epoch was validated"),
    "max_steps": (["--trainer.max_steps", "2"], "best val/loss"),
    "no bar": (["--trainer.enable_progress_bar", "false"], "best val/loss"),
    "no checkpoints": (["--trainer.enable_checkpointing", "false"], "no checkpoint was written: checkpoints are off"),
    "profiler": (["--trainer.profiler", "simple"], "best val/loss"),
    "precision": (["--trainer.precision", "bf16-mixed"], "best val/loss"),
    "double precision": (["--trainer.precision", "64-true"], "best val/loss"),
    "a callback": (["--trainer.callbacks+=LearningRateMonitor", "--trainer.logger", "true"], "best val/loss"),
    "a checkpoint of the user's": (
        [
            *("--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath", "{tmp}/own"),
            *("--trainer.callbacks.monitor", "val/depth"),
        ],
        r"best.ckpt \(best val/loss",
    ),
    "a logger": (["--trainer.logger=CSVLogger", "--trainer.logger.save_dir", "{tmp}/csv"], "best val/loss"),
    "no logger": (["--trainer.logger", "false"], "best val/loss"),
    "clipping": (["--trainer.gradient_clip_val", "1.0"], "best val/loss"),
    "accumulation": (["--trainer.accumulate_grad_batches", "2"], "best val/loss"),
    "few batches": (["--trainer.limit_train_batches", "1"], "best val/loss"),
    "validated seldom": (["--trainer.check_val_every_n_epoch", "2"], "best val/loss"),
    "no warm-up": (["--model.warm_up_steps", "0"], "best val/loss"),
    "one process, asked for": (["--trainer.devices", "1", "--trainer.accelerator", "cpu"], "best val/loss"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKS)
def test_trainer_options_work(command: Command, labels: list[Path], tmp_path: Path, name: str) -> None:
    more, said = WORKS[name]
    arguments = options(labels[0], tmp_path / "train", *(part.replace("{tmp}", str(tmp_path)) for part in more))
    code, heard = command("cola_learn.train", *arguments)
    assert code == 0, heard
    assert re.search(said, heard), heard
    if name == "a logger":
        assert list((tmp_path / "csv").rglob("metrics.csv"))
    if name == "a checkpoint of the user's":
        assert list((tmp_path / "own").glob("*.ckpt"))
    if "best.ckpt" in said:
        assert (tmp_path / "train" / "best.ckpt").exists()


REFUSED: dict[str, tuple[list[str], str]] = {
    "heads": (["--model.heads", "5"], "--model.heads is 5; give a divisor of width 16"),
    "width": (["--model.width", "0"], "--model.width is 0; give at least 1"),
    "blocks": (["--model.blocks", "0"], "--model.blocks is 0; give at least 1"),
    "dropout": (["--model.dropout", "1.5"], "--model.dropout is 1.5; give 0 to less than 1"),
    "rate": (["--model.learning_rate", "0"], "--model.learning_rate is 0.0; give more than 0"),
    "rate that is none": (["--model.learning_rate", "nan"], "model.learning_rate"),
    "decay": (["--model.weight_decay", "-1"], "--model.weight_decay is -1.0; give 0 or more"),
    "warm-up": (["--model.warm_up_steps", "-1"], "--model.warm_up_steps is -1; give 0 or more"),
    "error rate": (["--model.error_rate", "0"], "--model.error_rate is 0.0; give more than 0 to 1"),
    "price": (["--model.price", "-1"], "--model.price is -1.0; give 0 or more"),
    "components": (["--model.components", "0"], "--model.components is 0; give at least 1"),
    "batch": (["--data.batch_size", "0"], "--data.batch_size is 0; give at least 1"),
    "share": (["--data.validation_share", "1"], "--data.validation_share is 1.0; give a share"),
    "no layers": (["--data.feature_layers", "[]"], "--data.feature_layers is empty"),
    "layers beyond": (["--data.feature_layers", "[31]"], "--data.feature_layers [31]: the backbone has 30 layers"),
    "preference": (["--data.depth_preference", "-1"], "--data.depth_preference is -1.0; give 0 or more"),
    "limit": (["--limit", "-1"], "--limit -1 is too few; training needs at least 2 questions"),
    "limit of one": (["--limit", "1"], "--limit 1 is too few"),
    "seed": (["--seed", "-1"], "--seed -1"),
    "epochs": (["--trainer.max_epochs", "0"], "--trainer.max_epochs 0"),
    "patience": (["--patience", "-1"], "--patience -1"),
    "objective": (["--model.objective", "value"], "--model.objective value needs the same chains on every question"),
    "objective that is none": (["--model.objective", "vaule"], "model.objective"),
    "strategy that is none": (["--trainer.strategy", "nothing"], "nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_one_line(command: Command, labels: list[Path], tmp_path: Path, name: str) -> None:
    more, said = REFUSED[name]
    code, heard = command("cola_learn.train", *options(labels[0], tmp_path / "train", *more))
    assert code == 2, heard
    assert said in heard
    assert "Traceback" not in heard
    assert not list((tmp_path).rglob("*.ckpt"))


OTHERS: dict[str, tuple[list[str], str]] = {
    "a setting": (["--model.width", "32"], "model.width 16, not 32"),
    "a rate": (["--model.learning_rate", "0.01"], "model.learning_rate 0.001, not 0.01"),
    "another seed": (["--seed", "1"], "seed"),
    "fewer questions": (["--limit", "8"], "limit"),
    "other layers": (["--data.feature_layers", "[1]"], "data.feature_layers [0], not [1]"),
    "another precision": (["--trainer.precision", "bf16-mixed"], "trainer.precision"),
}


@pytest.fixture(scope="module")
def trained(labels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "train"
    subprocess.run(
        [sys.executable, "-m", "cola_learn.train", *options(labels[0], output)], check=True, capture_output=True
    )
    return output


@pytest.mark.parametrize("name", OTHERS)
def test_a_training_goes_on_from_no_other(command: Command, labels: list[Path], trained: Path, name: str) -> None:
    more, said = OTHERS[name]
    before = {file.name: file.read_bytes() for file in trained.glob("*.ckpt")}
    code, heard = command("cola_learn.train", *options(labels[0], trained, *more))
    assert code == 2, heard
    assert said in heard
    assert "name another --output, or give --resume false" in heard
    assert {file.name: file.read_bytes() for file in trained.glob("*.ckpt")} == before


def test_nor_from_one_on_other_labels(command: Command, labels: list[Path], trained: Path) -> None:
    code, heard = command("cola_learn.train", *options(labels[1], trained))
    assert code == 2
    assert "holds a training with other labels" in heard


def test_but_anew_when_told_so(command: Command, labels: list[Path], trained: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained, tmp_path / "train")
    code, heard = command("cola_learn.train", *options(labels[1], tmp_path / "train", "--resume", "false"))
    assert code == 0, heard
    assert "going on" not in heard


def losses(heard: str) -> float:
    found = re.search(r"best val/loss (-?[\d.]+)", heard)
    assert found, heard
    return float(found[1])


def weights(file: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(file, weights_only=True)["state_dict"]
    return state


def test_a_resumed_training_is_the_undisturbed_one(command: Command, labels: list[Path], tmp_path: Path) -> None:
    """Stopped within the third of five epochs."""
    five = ("--trainer.max_epochs", "5", "--model.dropout", "0.3", "--data.batch_size", "3")
    code, heard = command("cola_learn.train", *options(labels[0], tmp_path / "whole", *five))
    assert code == 0, heard
    stop = "cola_learn.train.module.ControllerModule"
    program = (
        "import sys, runpy\n"
        f"from {stop.rpartition('.')[0]} import ControllerModule\n"
        "start = ControllerModule.on_train_batch_start\n"
        "def stopping(self, batch, batch_idx):\n"
        "    if self.current_epoch == 2 and batch_idx == 1:\n"
        "        raise KeyboardInterrupt\n"
        "    start(self, batch, batch_idx)\n"
        "ControllerModule.on_train_batch_start = stopping\n"
        "sys.argv[0] = 'train'\n"
        "runpy.run_module('cola_learn.train', run_name='__main__')\n"
    )
    arguments = options(labels[0], tmp_path / "broken", *five)
    stopped = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert stopped.returncode == 130, stopped.stderr
    code, again = command("cola_learn.train", *arguments)
    assert code == 0, again
    assert "going on from" in again
    whole, broken = (weights(tmp_path / name / "last.ckpt") for name in ("whole", "broken"))
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert losses(heard) == losses(again)


def test_a_training_does_not_depend_on_whether_features_were_kept(
    command: Command, labels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading a model to compute them draws random numbers."""
    found = []
    for name in ("computed", "kept"):
        monkeypatch.setattr("cola_learn.train.features.cache_folder", lambda: tmp_path)
        code, heard = command("cola_learn.train", *options(labels[0], tmp_path / name))
        assert code == 0, heard
        assert ("features " in heard) == (name == "computed")
        found.append(losses(heard))
    assert found[0] == found[1]


def test_two_processes_train_to_the_same_loss_within_noise(labels: list[Path], tmp_path: Path) -> None:
    found = []
    for name, more in (("one", []), ("two", ["--trainer.devices", "2", "--trainer.strategy", "ddp"])):
        more = [*more, "--trainer.accelerator", "cpu", "--data.batch_size", "4", "--tracking", "offline"]
        run = subprocess.run(
            [sys.executable, "-m", "cola_learn.train", *options(labels[0], tmp_path / name, *more)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert run.returncode == 0, run.stderr
        found.append(losses(run.stderr))
        assert run.stderr.count("best val/loss") == 1
        assert len(list((tmp_path / name / "wandb").glob("offline-run-*"))) == 1
    assert found[1] == pytest.approx(found[0], rel=0.15)


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_processes_share_the_batches_of_an_epoch(replicas: int) -> None:
    lengths = list(range(5, 42))
    parts = [list(LengthBatches(lengths, 4, 7, lambda: 3, replicas, rank)) for rank in range(replicas)]
    assert {len(part) for part in parts} == {len(LengthBatches(lengths, 4, 7, lambda: 3, replicas, 0))}
    assert {index for part in parts for batch in part for index in batch} == set(range(len(lengths)))
    again = [list(LengthBatches(lengths, 4, 7, lambda: 3, replicas, rank)) for rank in range(replicas)]
    assert parts == again
    assert parts != [list(LengthBatches(lengths, 4, 7, lambda: 4, replicas, rank)) for rank in range(replicas)]


def test_the_record_of_a_training_says_what_it_was(trained: Path) -> None:
    record = json.loads((trained / "training.json").read_text())
    assert record["model.width"] == 16
    assert "trainer.max_epochs" not in record


def test_a_sweep_sets_options_of_train() -> None:
    sweep = yaml.safe_load(Path("configs/sweep.yaml").read_text())
    drawn = {name: (space.get("values") or [space["min"]])[0] for name, space in sweep["parameters"].items()}
    assert (sweep["command"][1:4], sweep["command"][-1]) == (["python", "-m", "cola_learn.train"], "${args}")
    given = [*sweep["command"][4:-1], *(f"--{name}={value}" for name, value in drawn.items()), "--print_config"]
    run = subprocess.run([sys.executable, "-m", "cola_learn.train", *given], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    settings = yaml.safe_load(run.stdout)
    for name, value in drawn.items():
        group, field = name.split(".")
        assert settings[group][field] == value


def test_trials_of_a_sweep_have_folders_of_their_own(
    command: Command, labels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    for trial in ("one", "two"):
        monkeypatch.setenv("WANDB_RUN_ID", trial)
        code, said = command("cola_learn.train", *options(labels[0], tmp_path), "--trainer.max_epochs", "1")
        assert code == 0, said
        assert (tmp_path / trial / "best.ckpt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


def test_two_trainings_as_users_run_them_are_equal_to_the_bit(tmp_path: Path) -> None:
    """In processes of their own, with the number of threads that is torch's default."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    weights = []
    for name in ("one", "other"):
        asked = [
            "--config",
            "configs/train/demo.yaml",
            "--extra_labels",
            "null",
            "--limit",
            "800",
            "--tracking",
            "disabled",
        ]
        asked += [
            "--labels",
            "data/menu/pool/sciq-validation",
            "--trainer.max_epochs",
            "2",
            "--output",
            str(tmp_path / name),
        ]
        subprocess.run(
            [sys.executable, "-m", "cola_learn.train", *asked], check=True, capture_output=True, env=environment
        )
        weights.append(torch.load(tmp_path / name / "best.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_fewer_epochs_than_were_trained_are_one_line(labels: list[Path], tmp_path: Path, command: Command) -> None:
    code, said = command("cola_learn.train", *options(labels[0], tmp_path))
    assert code == 0, said
    code, said = command("cola_learn.train", *options(labels[0], tmp_path, "--trainer.max_epochs", "1"))
    assert code == 2
    assert "--trainer.max_epochs 1 is fewer than" in said
    assert "Traceback" not in said
