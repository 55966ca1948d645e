"""Several GPUs, as far as they can be shown without one: what is asked for, and where it goes.

What is faked is how many GPUs torch or the cluster says there are, and nothing else.
"""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from cola_learn import Backbone, Chain, Executor, Row, Scoring
from cola_learn.label.plan import Job, Plan, Resources
from cola_learn.label.processes import _device_of
from cola_learn.search.methods import MCTS
from tests.conftest import WordTokenizer, tiny_llama


@pytest.mark.parametrize(
    ("gpus", "device", "expected"),
    [
        (3, "auto", ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]),
        (2, "cuda", ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        (2, "cpu", ["cpu"] * 4),
        (0, "auto", ["auto"] * 4),
    ],
)
def test_workers_take_the_gpus_in_turn(
    gpus: int, device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    job = Job("embedded", Scoring(), Plan(MCTS(4)), Resources(device=device, workers=4))
    assert [_device_of(number, job) for number in range(4)] == expected


@pytest.mark.slow
def test_each_actor_is_given_a_gpu_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that says it has two: actors reserve one each, and without any they reserve what they are told."""
    import ray

    from cola_learn.label.ray_workers import RayWorkers

    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    try:
        for worker_gpus, left in ((None, 0.0), (0.5, 1.0), (0.0, 2.0)):
            resources = Resources(workers=2, executor="ray", ray_address="auto", worker_cpus=1, worker_gpus=worker_gpus)
            job = Job("embedded", Scoring(metric="acc", reward="choices"), Plan(MCTS(4)), resources)
            with closing(RayWorkers(job)):
                assert ray.available_resources().get("GPU", 0.0) == left
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_training_on_two_devices(tmp_path: Path) -> None:
    """Lightning's own options: two processes with gloo, as two GPUs would be with nccl."""
    arguments = ["--config", "configs/train/small.yaml", "--labels", "data/labels/arc_easy-test", "--limit", "40"]
    arguments += ["--output", str(tmp_path / "train"), "--tracking", "disabled", "--trainer.devices", "2"]
    arguments += ["--trainer.strategy", "ddp", "--trainer.max_epochs", "1"]
    asked = [sys.executable, "-m", "cola_learn.train", *arguments]
    ended = subprocess.run(asked, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "34 prompts to train on, 6 to validate on" in ended.stderr
    assert (tmp_path / "train" / "best.ckpt").exists()


def test_layers_whose_weights_are_elsewhere() -> None:
    """As ``--device split`` leaves those that find no room on a GPU: accelerate brings them when a layer runs."""
    from accelerate import cpu_offload

    here = Backbone(tiny_llama(), WordTokenizer(), "tiny")
    away = Backbone(cpu_offload(tiny_llama(), execution_device=torch.device("cpu")), WordTokenizer(), "tiny")
    assert next(away.layers[0].parameters()).device.type == "meta"
    rows = [Row.plain(range(3, 3 + length)) for length in (5, 12)]
    states = []
    for backbone in (here, away):
        executor = Executor(backbone)
        handles = [executor.open(row) for row in rows]
        chains = [Chain.parse(text, 6) for text in ("0-5", "0-2 4-5", "0-3 (4)x2 5")]
        states.append(executor.run([(handle, chain) for handle in handles for chain in chains]))
        assert torch.allclose(backbone.logits(states[0][0]), here.logits(states[0][0]), atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*states, strict=True))
