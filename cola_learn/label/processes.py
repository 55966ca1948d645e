"""Replicas of the backbone in several processes of one machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from cola_learn.console import quiet_libraries
from cola_learn.errors import UserError
from cola_learn.label.labeller import Effort, Labeller, blocks_of, label_block
from cola_learn.label.manifest import Identity
from cola_learn.label.plan import Job
from cola_learn.label.records import Label
from cola_learn.tasks.questions import Question

_LOOKS_EVERY = 0.5  # seconds

_labeller: Labeller | UserError  # of a worker process
_settled: Any  # simulations that all workers have settled


class ProcessWorkers:
    """Labels questions in ``job.resources.workers`` processes: one a GPU in turn, or an equal share of the cores each.

    Args:
        job: what is asked for.
    """

    def __init__(self, job: Job) -> None:
        self.effort = Effort()
        self._job = job
        context = multiprocessing.get_context("spawn")  # a fork would share the parent's CUDA state and thread pools
        self._settled = context.Value("q", 0)
        self._pool = ProcessPoolExecutor(
            job.resources.workers, context, initializer=_start, initargs=(job, context.Value("i", 0), self._settled)
        )
        try:
            self.identity: Identity = self._pool.submit(_identity).result()
        except BrokenProcessPool:
            self.close()
            raise self._died() from None
        except BaseException:
            self.close()
            raise

    def run(self, questions: Sequence[Question], on_round: Callable[[int], None]) -> Iterator[list[Label]]:
        """Labels of the questions by block, whichever is finished first.

        Raises:
            UserError: if a worker dies.
        """
        waiting = {self._pool.submit(_label, block) for block in blocks_of(questions, self._job.resources)}
        told = self._settled.value
        try:
            while waiting:
                finished, waiting = wait(waiting, _LOOKS_EVERY, FIRST_COMPLETED)
                settled = self._settled.value
                on_round(settled - told)
                told = settled
                for future in finished:
                    labels, effort = future.result()
                    self.effort += effort
                    yield labels
        except BrokenProcessPool:
            raise self._died() from None

    def _died(self) -> UserError:
        return UserError(
            f"one of --workers {self._job.resources.workers} died, perhaps out of memory; run the same command "
            "again, with fewer if need be, to resume"
        )

    def close(self) -> None:
        """End the processes."""
        processes = list((self._pool._processes or {}).values())
        for process in processes:  # in the middle of a block that nobody waits for any more
            process.terminate()
        self._pool.shutdown()


def _start(job: Job, started: Any, settled: Any) -> None:
    global _labeller, _settled
    _settled = settled
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    end_with_parent()
    quiet_libraries()
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    device = _device_of(number, job)
    if not device.startswith("cuda"):
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // job.resources.workers))
    try:
        _labeller = Labeller.load(job, device)
    except UserError as error:  # an initializer that raises would only be said to be broken
        _labeller = error


def _device_of(number: int, job: Job) -> str:
    """Where a worker runs: the GPUs are taken in turn."""
    gpus = 0 if job.resources.device == "cpu" else torch.cuda.device_count()
    return f"cuda:{number % gpus}" if gpus else job.resources.device


def _identity() -> Identity:
    return _loaded().identity


def _label(questions: Sequence[Question]) -> tuple[list[Label], Effort]:
    return label_block(_loaded(), questions, _count)


def _count(simulations: int) -> None:
    with _settled.get_lock():
        _settled.value += simulations


def _loaded() -> Labeller:
    if isinstance(_labeller, UserError):
        raise _labeller
    return _labeller


def end_with_parent() -> None:
    """Have this process, a worker that ``multiprocessing`` has started, end as soon as its parent has, even by a
    ``kill -9``: it would wait for ever for more to do, and keep its memory."""
    parent = multiprocessing.parent_process()
    assert parent

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
