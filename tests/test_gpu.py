"""The script that is to run on a GPU, at toy size on a CPU, so that it cannot rot."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


@pytest.fixture
def setting(tmp_path: Path) -> gpu.Setting:
    return gpu.Setting(gpu.TOY, torch.device("cpu"), tmp_path)


def test_exactness(setting: gpu.Setting) -> None:
    for name, found in gpu.exactness(setting)["models"].items():
        least = 1e-5 if "float32" in name else 0.05
        assert max(found["base"], found["chains"]) < least, (name, found)
        assert found["same_text"] == 1.0, name


def test_speed(setting: gpu.Setting) -> None:
    assert gpu.flips(setting)["flips"] == 0
    table = gpu.executor(setting)
    assert list(table["trees"]) == [1, 4]
    assert all(row["evaluations_per_second"] > 0 for row in table["trees"].values())
    assert set(gpu.decoding(setting)["batch 3"]) == {"plain_tokens_per_second", "50%", "75%", "100%"}


def test_commands_and_training(setting: gpu.Setting) -> None:
    found = gpu.commands(setting)
    assert 0 <= found["kept_when_killed"] <= found["questions"] == 6
    for name in ("resumed", "workers"):
        assert found[f"{name}_equal"] == found[f"{name}_same_chains"] == 1.0
    assert "controller" in gpu.training(setting)["policies"]


def test_a_part_that_fails_leaves_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In processes of their own, to one file."""
    output = tmp_path / "gpu.json"
    assert gpu.main(["--toy", "--device", "meta", "--parts", "flips", "--output", str(output)]) == 1
    found = json.loads(output.read_text())
    assert found["setting"]["torch"] == torch.__version__
    assert "meta" in found["parts"]["flips"]["error"]
    assert "failed" in capsys.readouterr().err
