"""Labels by several processes, and on a Ray cluster with a lost actor: always the same store."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from cola_learn.errors import UserError
from cola_learn.label.labeller import Workers, blocks_of
from cola_learn.label.plan import Job, Plan, Resources
from cola_learn.label.records import Label
from cola_learn.label.run import start_workers
from cola_learn.label.store import LabelStore
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.methods import MCTS
from cola_learn.tasks.load_task import load_task

ARGUMENTS = ("--limit", "12", "--search.simulations", "10", "--trees", "4", "--tracking", "disabled")
QUESTIONS = load_task("arc_easy", "test", 12, 0)


def start(output: Path, *more: str) -> subprocess.Popen[str]:
    """``python -m cola_learn.label`` as a process of its own, with children that end with it."""
    return subprocess.Popen(
        [sys.executable, "-m", "cola_learn.label", *ARGUMENTS, "--output", str(output), *more],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Label]:
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder)
    assert process.wait(300) == 0, process.communicate()[1]
    found = LabelStore.open(folder).read()
    assert [label.key for label in found] == [question.key for question in QUESTIONS]
    return found


def test_a_second_run_on_one_folder_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path)
    while not any(tmp_path.glob("part-*")):
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGSTOP)  # in the middle of its work
    second = start(tmp_path)
    _, said = second.communicate(timeout=120)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert second.returncode == 2
    assert f"error: --output {tmp_path} is being written by another run" in said


def test_blocks_are_all_the_questions_once() -> None:
    for count in (1, 2, 7, 12):
        for workers in (1, 2, 5):
            blocks = blocks_of(QUESTIONS[:count], Resources(trees=4, workers=workers))
            assert sorted(q.key for block in blocks for q in block) == sorted(q.key for q in QUESTIONS[:count])
            assert max(map(len, blocks)) <= 4


def labelled(workers: Workers, during: Callable[[], None] = lambda: None) -> list[Label]:
    """All labels of the workers, in the order of the questions; ``during`` runs when the first block is done."""
    told: list[int] = []
    found: dict[str, Label] = {}
    for labels in workers.run(QUESTIONS, told.append):
        if not found:
            during()
        found.update((label.key, label) for label in labels)
    assert sum(told) == 2 * 10 * len(QUESTIONS)
    return [found[question.key] for question in QUESTIONS]


def job_of(backbone: str = "embedded", **resources: Any) -> Job:
    return Job(backbone, Scoring(metric="acc_norm", reward="choices"), Plan(MCTS(10)), Resources(trees=4, **resources))


def test_two_processes_make_the_same_labels(undisturbed: list[Label]) -> None:
    with closing(start_workers(job_of(workers=2))) as workers:
        assert labelled(workers) == undisturbed
        assert workers.effort.usage.layers_run < workers.effort.usage.layers_asked


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_backbone_that_is_not_there_is_one_line(executor: str) -> None:
    with pytest.raises(UserError, match="nowhere"):
        start_workers(job_of(workers=2, backbone="./nowhere", executor=executor))


def test_a_lost_process_is_reported() -> None:
    import multiprocessing

    def kill_all() -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    with closing(start_workers(job_of(workers=2))) as workers, pytest.raises(UserError, match="workers 2 died"):
        labelled(workers, kill_all)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("kind", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_processes_end_with_the_run(tmp_path: Path, kind: signal.Signals, code: int) -> None:
    """A scheduler, or whoever is out of memory, ends the run's own process only."""
    process = start(tmp_path, "--workers", "2", "--search.simulations", "1000")
    parent = psutil.Process(process.pid)
    while not any(tmp_path.iterdir()) or len(parent.children()) < 2:  # the store is begun when both are at work
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    children = parent.children()
    process.send_signal(kind)
    try:
        assert process.wait(60) == code
    finally:
        process.kill()
    _, left = psutil.wait_procs(children, timeout=20)
    for child in left:
        child.kill()
    assert not left
    assert process.communicate()[1].endswith("run the same command again to resume\n") == (code > 0)


@pytest.fixture(scope="module")
def ray_workers() -> Iterator[Workers]:
    with closing(start_workers(job_of(executor="ray", workers=2, worker_cpus=1.0))) as workers:
        yield workers


@pytest.mark.slow
def test_a_lost_actor_costs_nothing_but_time(undisturbed: list[Label], ray_workers: Workers) -> None:
    """A real local cluster; an actor's process is killed while it works on a block."""
    import psutil

    def kill_an_actor() -> None:
        actors = [
            process
            for process in psutil.Process().children(recursive=True)
            if "ray::_Actor" in " ".join(process.cmdline())
        ]
        assert len(actors) == 2
        actors[0].kill()

    assert labelled(ray_workers, kill_an_actor) == undisturbed


def test_resources_that_are_not_there_are_named(ray_workers: Workers) -> None:
    with pytest.raises(UserError, match="do not fit the cluster"):
        start_workers(job_of(executor="ray", workers=500, worker_cpus=1.0))
