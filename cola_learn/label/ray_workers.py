"""Replicas of the backbone as actors of a Ray cluster."""

import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cola_learn.console import quiet_libraries
from cola_learn.errors import UserError, first_line
from cola_learn.label.labeller import Effort, Labeller, blocks_of, label_block
from cola_learn.label.manifest import Identity
from cola_learn.label.plan import Job
from cola_learn.label.records import Label
from cola_learn.tasks.questions import Question

_ATTEMPTS = 3


class RayWorkers:
    """Labels questions on a Ray cluster: ``job.resources.workers`` actors, each with a backbone.

    An actor that is lost is started again by Ray, wherever there is room; its block goes to whichever is free first.

    Args:
        job: what is asked for; nodes must find the backbone under the same name.

    Raises:
        UserError: without Ray, without the cluster, or if the actors do not start.
    """

    def __init__(self, job: Job) -> None:
        try:
            import ray
        except ImportError:
            raise UserError(
                "--executor ray needs Ray: pip install 'cola-learn[ray]', or use --executor local"
            ) from None
        self._ray: Any = ray
        self.effort = Effort()
        self._job = job
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default; silences its notice
        self._started = not ray.is_initialized()
        if self._started:
            on_terminate = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(
                    job.resources.ray_address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = first_line(error)
                raise UserError(f"--ray_address {job.resources.ray_address}: no cluster there ({reason})") from None
            signal.signal(signal.SIGTERM, on_terminate)  # Ray's own handler aborts with the stack of its threads
        self._actors = [self._new_actor() for _ in range(job.resources.workers)]
        try:
            self.identity: Identity = ray.get(self._actors[0].identity.remote())
        except ray.exceptions.RayError as error:
            self.close()
            cause = getattr(error, "cause", None)
            if isinstance(cause, UserError):
                raise cause from None
            raise UserError(f"--executor ray: the first actor did not start: {_last_line(error)}") from None

    def run(self, questions: Sequence[Question], on_round: Callable[[int], None]) -> Iterator[list[Label]]:
        """Labels of the questions by block, whichever is finished first.

        Raises:
            UserError: if a block fails again and again.
        """
        ray = self._ray
        plan = self._job.plan
        most = plan.budget(self.identity.num_layers) * (1 + plan.luck)
        waiting = deque(enumerate(blocks_of(questions, self._job.resources)))
        failures: Counter[int] = Counter()
        free = list(self._actors)
        under_way: dict[Any, tuple[Any, tuple[int, list[Question]] | None]] = {}
        while waiting or any(job for _, job in under_way.values()):
            while waiting and free:
                job = waiting.popleft()
                actor = free.pop(0)
                under_way[actor.label.remote(job[1])] = (actor, job)
            done, _ = ray.wait(list(under_way), num_returns=1)
            actor, found = under_way.pop(done[0])
            try:
                result = ray.get(done[0])
            except ray.exceptions.RayActorError as error:
                if found:
                    failures[found[0]] += 1
                    waiting.appendleft(found)
                    if failures[found[0]] >= _ATTEMPTS:
                        raise UserError(
                            f"--executor ray: actors died {_ATTEMPTS} times over one block: {_last_line(error)}; "
                            "run the same command again to resume"
                        ) from None
                under_way[actor.identity.remote()] = (actor, None)  # free again once it is up again
                continue
            except ray.exceptions.RayTaskError as error:
                raise UserError(f"--executor ray: a worker failed: {_last_line(error)}") from None
            free.append(actor)
            if found:
                labels, effort = result
                self.effort += effort
                on_round(most * len(labels))
                yield labels

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    def _new_actor(self) -> Any:
        asked, resources = self._job.resources, self._ray.cluster_resources()
        gpus = asked.worker_gpus
        if gpus is None:
            gpus = 1 if resources.get("GPU") and asked.device != "cpu" else 0
        cpus = asked.worker_cpus
        if cpus is None:
            cpus = max(1, int(resources.get("CPU", 1) // asked.workers))
        if cpus * asked.workers > resources.get("CPU", 0) or gpus * asked.workers > resources.get("GPU", 0):
            raise UserError(
                f"--workers {asked.workers} with {cpus:g} CPUs and {gpus:g} GPUs each do not fit the cluster: it "
                f"has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs; give less"
            )
        actor = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=-1)(_Actor)
        return actor.remote(self._job, max(1, int(cpus)))


class _Actor:
    def __init__(self, job: Job, threads: int) -> None:
        import torch

        quiet_libraries()
        torch.set_num_threads(threads)
        self._labeller = Labeller.load(job)

    def identity(self) -> Identity:
        return self._labeller.identity

    def label(self, questions: Sequence[Question]) -> tuple[list[Label], Effort]:
        return label_block(self._labeller, questions)


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
