"""Several replicas of the backbone on one machine, each in a process of its own."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from cola_learn.cli import UserError, quiet_libraries
from cola_learn.label.labeller import Effort, Identity, Labeller, blocks_of, label_block
from cola_learn.label.options import LabelOptions
from cola_learn.label.records import Label
from cola_learn.tasks import Question

_labeller: Labeller | UserError  # of a worker process


class ProcessWorkers:
    """Labels questions in ``options.workers`` processes: one a GPU in turn, or an equal share of the cores each.

    Args:
        options: of the run.
    """

    def __init__(self, options: LabelOptions) -> None:
        self.effort = Effort()
        self._options = options
        context = multiprocessing.get_context("spawn")  # a fork would share the parent's CUDA state and thread pools
        self._pool = ProcessPoolExecutor(
            options.workers, context, initializer=_start, initargs=(options, context.Value("i", 0))
        )
        try:
            self.identity: Identity = self._pool.submit(_identity).result()
        except BaseException:
            self.close()
            raise

    def run(self, questions: Sequence[Question], on_round: Callable[[int], None]) -> Iterator[list[Label]]:
        """Labels of the questions by block, whichever is finished first.

        Raises:
            UserError: if a worker dies.
        """
        budget = self._options.search.simulations * (1 + self._options.luck)
        futures = [self._pool.submit(_label, block) for block in blocks_of(questions, self._options)]
        try:
            for future in as_completed(futures):
                labels, effort = future.result()
                self.effort += effort
                on_round(budget * len(labels))
                yield labels
        except BrokenProcessPool:
            raise UserError(
                f"one of --workers {self._options.workers} died, perhaps for want of memory; the same command, with "
                "fewer if need be, goes on from what is finished"
            ) from None

    def close(self) -> None:
        """End the processes."""
        processes = list((self._pool._processes or {}).values())
        for process in processes:  # in the middle of a block that nobody waits for any more
            process.terminate()
        self._pool.shutdown()


def _start(options: LabelOptions, started: Any) -> None:
    global _labeller
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    quiet_libraries()
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    gpus = 0 if options.device == "cpu" else torch.cuda.device_count()
    if not gpus:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // options.workers))
    try:
        _labeller = Labeller.load(options, f"cuda:{number % gpus}" if gpus else options.device)
    except UserError as error:  # an initializer that raises would only be said to be broken
        _labeller = error


def _identity() -> Identity:
    return _loaded().identity


def _label(questions: Sequence[Question]) -> tuple[list[Label], Effort]:
    return label_block(_loaded(), questions)


def _loaded() -> Labeller:
    if isinstance(_labeller, UserError):
        raise _labeller
    return _labeller
