"""``kill -9`` at random moments over label, train and evaluate: nothing that was finished is lost or done again, and in
the end nothing tells of it. ``make test-all`` kills a hundred times more, some of them runs of the embedded model."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet
import pytest
import torch

from cola_learn import LabelStore
from cola_learn.files import read_json
from cola_learn.train.checkpoints import check_checkpoint
from tests.end_to_end.conftest import EVALUATE, make_run, save_tiny

# Imports once what every stage imports, and runs stages in forks of itself, which saves seconds at each of them.
NURSERY = """
import json, os, runpy, sys
import cola_learn.evaluate.evaluation, cola_learn.label.run, cola_learn.train.data, cola_learn.train.module
import datasets, lightning, transformers.models.llama.modeling_llama, wandb
print(0, flush=True)
for line in sys.stdin:
    log, module, *arguments = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.argv = [module, *arguments]
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Runs stages in processes that can be killed."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._in, self._out = self._pipes()
        self._out.readline()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin
        assert self._process.stdout
        return self._process.stdin, self._process.stdout

    def run(self, arguments: list[str], seconds: float | None = None, after: Path | None = None) -> int:
        """The exit code of a stage, killed after so many seconds, counted from when a file is there if one is named,
        unless it has ended before."""
        self.log.write_text("")
        self._in.write(json.dumps([str(self.log), *arguments]) + "\n")
        self._in.flush()
        child = int(self._out.readline())
        if seconds is not None:
            while after and not after.exists() and os.path.exists(f"/proc/{child}"):
                time.sleep(0.01)
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):  # it was through already
                os.killpg(child, signal.SIGKILL)
        return int(self._out.readline())

    def close(self) -> None:
        self._in.close()
        self._process.wait(60)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("nursery") / "log")
    yield nursery
    nursery.close()


@pytest.fixture(
    scope="module",
    params=[
        ("tiny", 10),
        pytest.param(("tiny", 30), marks=pytest.mark.slow),
        pytest.param(("embedded", 4), marks=pytest.mark.slow),
    ],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the model that is killed, in a folder of the model's name."""
    folder = tmp_path_factory.mktemp("small") / request.param[0]
    if folder.name == "tiny":
        save_tiny(folder / "backbone", layers=6)
        make_run(folder, "--backbone", folder / "backbone")
    else:
        make_run(folder)
    return folder


@pytest.fixture
def kills(small: Path, request: pytest.FixtureRequest) -> int:
    return int(request.node.callspec.params["small"][1])


def kill_again_and_again(
    nursery: Nursery,
    arguments: list[str],
    kills: int,
    folder: Path,
    kept: Callable[[Path], int],
    first: str,
    last: float = 0.9,
) -> tuple[Path, Path, int]:
    """Run a stage undisturbed in one folder, and again and again killed in others until it is through.

    Args:
        arguments: of the stage, without the output.
        kept: checks what is left of a killed run and says how much of it is finished.
        first: the file with which it begins to keep something. Every second kill of a run that has none yet comes
            soon after it: where loading takes most of the time, few others would find anything kept.
        last: the latest moment of a kill, as a share of the undisturbed run.

    Returns:
        The folder of the undisturbed run, the last of the others, and how many kills hit a run with something kept.
    """
    undisturbed = folder / "undisturbed"
    began = time.monotonic()
    assert nursery.run([*arguments, "--output", str(undisturbed)]) == 0, nursery.log.read_text()
    seconds = time.monotonic() - began
    draws, before, rounds, hits = random.Random(kills), 0, 0, 0
    for place in range(kills):
        output = folder / f"killed-{rounds}"
        soon = place % 2 == 0 and not (output / first).exists()
        share = draws.uniform(0.02, 0.1) if soon else draws.uniform(last / 3, last)
        code = nursery.run([*arguments, "--output", str(output)], share * seconds, output / first if soon else None)
        assert code in (0, -signal.SIGKILL), nursery.log.read_text()
        finished = kept(output)
        assert finished >= before, "what was finished is lost"
        hits += finished > 0
        before = finished
        if code == 0:  # it was through before it was to be killed
            rounds, before = rounds + 1, 0
    output = folder / f"killed-{rounds}"
    assert nursery.run([*arguments, "--output", str(output)]) == 0, nursery.log.read_text()
    return undisturbed, output, hits


def test_label(kills: int, small: Path, nursery: Nursery, tmp_path: Path) -> None:
    arguments = ["cola_learn.label", "--search.simulations", "10", "--trees", "2"]
    arguments += ["--limit", "40", "--backbone", str(small / "backbone")] if small.name == "tiny" else ["--limit", "24"]

    def kept(folder: Path) -> int:
        if not (folder / "manifest.json").exists():
            return 0
        labels = {label.key: label for label in LabelStore.open(folder)}
        whole = {label.key: label for label in LabelStore.open(tmp_path / "undisturbed")}
        assert labels.items() <= whole.items()
        return len(labels)

    undisturbed, killed, hits = kill_again_and_again(
        nursery, [*arguments, "--tracking", "disabled"], kills, tmp_path, kept, "manifest.json"
    )
    one, other = LabelStore.open(undisturbed).files(), LabelStore.open(killed).files()
    assert [file.name for file in one] == [file.name for file in other]
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other]
    assert hits > kills // 4


def test_train(kills: int, small: Path, nursery: Nursery, tmp_path: Path) -> None:
    arguments = ["cola_learn.train", "--labels", str(small / "labels"), "--trainer.max_epochs", "40"]
    more = ["--patience", "40", "--model.width", "16", "--model.blocks", "1", "--tracking", "disabled"]

    def kept(folder: Path) -> int:
        if not (folder / "last.ckpt").exists():
            return 0
        check_checkpoint(folder / "last.ckpt")
        return int(torch.load(folder / "last.ckpt", weights_only=True)["epoch"]) + 1

    undisturbed, killed, hits = kill_again_and_again(nursery, [*arguments, *more], kills, tmp_path, kept, "last.ckpt")
    one, other = (torch.load(folder / "best.ckpt", weights_only=True) for folder in (undisturbed, killed))
    assert one["epoch"] == other["epoch"]
    assert all(torch.equal(weight, other["state_dict"][name]) for name, weight in one["state_dict"].items())
    assert hits > kills // 4


def test_evaluate(kills: int, small: Path, nursery: Nursery, tmp_path: Path) -> None:
    arguments = ["cola_learn.evaluate", "--controllers", str(small / "controller")]
    more = ["--labels", str(small / "labels"), *EVALUATE, "--limit", "8", "--trees", "1"]

    def kept(folder: Path) -> int:
        store = folder / "search" / "arc_easy-validation"
        return len(LabelStore.open(store).read()) if (store / "manifest.json").exists() else 0

    undisturbed, killed, hits = kill_again_and_again(
        nursery,
        [*arguments, *more],
        kills,
        tmp_path,
        kept,
        "search/arc_easy-validation/manifest.json",
        last=0.7,  # then only costs are measured and pages drawn
    )
    one, other = (read_json(folder / "report.json") for folder in (undisturbed, killed))
    assert without_times(one) == without_times(other)
    tables = [pyarrow.parquet.read_table(folder / "questions.parquet") for folder in (undisturbed, killed)]
    assert tables[0] == tables[1]
    assert hits > kills // 4


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    rows = [{name: value for name, value in row.items() if name != "cost"} for row in report["rows"]]
    return {**{name: value for name, value in report.items() if name != "headline"}, "rows": rows}
