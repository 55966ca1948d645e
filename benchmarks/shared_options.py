"""Speed-up from options that share one sequence: the same chains scored both ways, in turn."""

import statistics
import time
from dataclasses import dataclass

from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.console import console
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import as_sample


@dataclass(frozen=True)
class SharedOptions:
    """Options of python -m benchmarks.shared_options.

    Attributes:
        backbone: as for label.
        dtype: as for label.
        task: a benchmark with options.
        questions: how many, scored together.
        repeats: how often each way is timed.
    """

    backbone: str = "gemma3-270m"
    dtype: Dtype = "auto"
    task: str = "arc_easy"
    questions: int = 24
    repeats: int = 5


def run_shared(options: SharedOptions) -> float:
    """Time both ways and print their ratio, which is returned."""
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    samples = [as_sample(question) for question in load_task(options.task, "validation", options.questions)]
    layers = tuple(range(backbone.num_layers))
    chains = [Chain(layers[:skip] + layers[skip + 1 :], len(layers)) for skip in range(0, len(layers), 2)]
    times: dict[bool, list[float]] = {True: [], False: []}
    values: dict[bool, list[float]] = {}
    for turn in range(options.repeats + 1):
        for shared in (True, False):
            scorer = OptionScorer(Executor(backbone), shared_prompt=shared)
            begun = time.perf_counter()
            for sample in samples:
                scorer.open(sample)
            scores = scorer.score([(sample.key, chain) for sample in samples for chain in chains])
            if turn:  # the first warms up
                times[shared].append(time.perf_counter() - begun)
            values[shared] = [value for score in scores for value in score.values]
    ratio = statistics.median(times[False]) / statistics.median(times[True])
    largest = max(abs(one - other) for one, other in zip(values[True], values[False], strict=True))
    count = len(samples) * len(chains)
    console.print(
        f"{options.backbone}, {backbone.dtype_name}, {count} (question, chain) pairs of {options.task}, medians of "
        f"{options.repeats}: {count / statistics.median(times[True]):.1f} a second with options in one sequence, "
        f"{count / statistics.median(times[False]):.1f} in rows of their own: {ratio:.2f} times as many; scores differ "
        f"by {largest:.1e} nats at most"
    )
    return ratio


if __name__ == "__main__":
    Command(SharedOptions, run_shared, "Time options in one sequence and apart.")("benchmarks.shared_options")
