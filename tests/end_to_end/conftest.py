"""A run of all stages on a few questions, to damage copies of."""

import contextlib
import gzip
import json
import os
import runpy
import shutil
import sys
from pathlib import Path

import datasets
import pytest
from filelock import FileLock
from transformers import AutoTokenizer

from cola_learn import assets
from tests.conftest import tiny_llama

LABEL = ("--limit", "8", "--search.simulations", "6", "--neighbours", "0", "--tracking", "disabled")
TRAIN = ("--trainer.max_epochs", "2", "--model.width", "16", "--model.blocks", "1", "--tracking", "disabled")
EVALUATE = (
    *("--limit", "4", "--search.simulations", "4", "--static_candidates", "2", "--static_questions", "4"),
    *("--cost_questions", "2", "--tracking", "disabled"),
)


def run(stage: str, *arguments: str | Path) -> None:
    """Run a stage in this process, whose imports it shares."""
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(sys, "argv", [stage, *map(str, arguments)])
        runpy.run_module(f"cola_learn.{stage}", run_name="__main__")
        return
    raise AssertionError(f"{stage} failed")


def save_tiny(folder: Path, layers: int) -> None:
    """Save a model with random weights and the embedded tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(assets.model_folder(), trust_remote_code=False)
    tokenizer.save_pretrained(folder)
    tiny_llama(layers, vocabulary=len(tokenizer), positions=2048).save_pretrained(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``labels``, ``train``, ``controller`` and ``evaluate`` of a small run of a tiny model with 30 layers, its labels
    for another project, and two files of questions; made once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock"):
        if not (folder / "questions.jsonl.gz").exists():
            save_tiny(folder.with_name("backbone"), layers=30)
            make_run(folder, "--backbone", folder.with_name("backbone"))
            write_questions(folder)
    return folder


def make_run(folder: Path, *model: str | Path) -> None:
    """Label with a model, train, export and evaluate."""
    labels, train, controller = folder / "labels", folder / "train", folder / "controller"
    run("label", *LABEL, *model, "--output", labels)
    run("train", *TRAIN, "--labels", labels, "--output", train)
    run("export", "--checkpoint", train / "best.ckpt", "--output", controller, "--tracking", "disabled")
    run("evaluate", *EVALUATE, "--controllers", controller, "--labels", labels, "--output", folder / "evaluate")


def write_questions(folder: Path) -> None:
    rows = [{"question": f"Q{number}?", "choices": ["a", "b"], "answer": "a"} for number in range(40)]
    datasets.Dataset.from_list(rows).to_parquet(str(folder / "questions.parquet"))
    with gzip.open(folder / "questions.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of :func:`finished` to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
