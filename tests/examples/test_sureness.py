"""A reward of one's own, from labels to a report, in commands that share nothing but files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cola_learn import LabelStore

REWARD = ("--reward", "examples.sureness.SURENESS")
QUICK = ("--search.simulations", "6", "--tracking", "disabled")
TINY = ("--model.width", "16", "--model.blocks", "1", "--model.heads", "1", "--trainer.max_epochs", "1")


def run(stage: str, *arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-m", f"cola_learn.{stage}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sure")
    code, said = run("label", *REWARD, "--limit", "8", *QUICK, "--output", folder / "labels")
    assert code == 0, said
    return folder / "labels"


def test_labels_hold_the_reward_and_what_is_good(labels: Path) -> None:
    store = LabelStore.open(labels)
    assert (store.manifest.scoring.reward, store.manifest.good_from) == (REWARD[1], 0.5)
    rewards = [trial.reward for label in store for trial in label.trials]
    assert any(0 < reward < 1 for reward in rewards)
    for label in store:
        assert {trial.chain for trial in label.good} == {one.chain for one in label.trials if one.reward >= 0.5}
    code, said = run("label", "verify", labels, "--limit", "2", *REWARD)
    assert code == 0, said
    assert "0 rewards differ" in said


def test_labels_alone_import_nothing(labels: Path) -> None:
    for arguments in (("verify", labels), ("inspect", labels)):
        code, said = run("label", *arguments)
        assert code == (2 if arguments[0] == "verify" else 0), said
    code, said = run("label", "verify", labels)
    assert "name it too: --reward examples.sureness.SURENESS" in said


def test_a_controller_is_trained_and_evaluated_on_it(labels: Path, tmp_path: Path) -> None:
    for stage, arguments in (
        ("train", ("--labels", labels, "--output", tmp_path / "train", "--data.trials", "all", *TINY)),
        ("export", ("--checkpoint", tmp_path / "train" / "best.ckpt", "--output", tmp_path / "controller")),
        (
            "evaluate",
            (
                *("--labels", labels, "--controllers", tmp_path / "controller", "--output", tmp_path / "report"),
                *(*REWARD, "--limit", "4", "--search.simulations", "4", "--static_questions", "4"),
            ),
        ),
    ):
        code, said = run(stage, *arguments, "--tracking", "disabled")
        assert code == 0, said
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert 0 < report["rows"][0]["accuracy"] < 1
    assert report["setting"]["metric"] == "probability of the right option, acc_norm"
