"""A run of all stages on a few questions, to damage copies of."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from filelock import FileLock

LABEL = ("--limit", "8", "--search.simulations", "6", "--neighbours", "0", "--tracking", "disabled")
TRAIN = ("--trainer.max_epochs", "2", "--model.width", "16", "--model.blocks", "1", "--tracking", "disabled")
EVALUATE = (
    *("--limit", "4", "--search.simulations", "4", "--static_candidates", "2", "--static_questions", "4"),
    *("--tracking", "disabled"),
)


def run(stage: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", f"cola_learn.{stage}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``labels``, ``train``, ``controller`` and ``evaluate`` of one small run, its labels in another project's form,
    and two files of questions; made once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock"):
        if not (folder / "questions.jsonl.gz").exists():
            make_run(folder)
    return folder


def make_run(folder: Path) -> None:
    labels, train, controller = folder / "labels", folder / "train", folder / "controller"
    run("label", *LABEL, "--output", labels)
    run("train", *TRAIN, "--labels", labels, "--output", train)
    run("export", "--checkpoint", train / "best.ckpt", "--output", controller)
    run("evaluate", *EVALUATE, "--controller", controller, "--labels", labels, "--output", folder / "evaluate")
    run("label", "export", labels, "--output", folder / "merged.json")
    rows = [{"question": f"Q{number}?", "choices": ["a", "b"], "answer": "a"} for number in range(40)]
    datasets.Dataset.from_list(rows).to_parquet(str(folder / "questions.parquet"))
    with gzip.open(folder / "questions.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of :func:`finished` to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
