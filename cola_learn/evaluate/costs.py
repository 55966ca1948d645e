"""Cost of a question under each policy, controller included: FLOPs and wall time."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy
import torch
from torch.utils.flop_counter import FlopCounterMode

from cola_learn.chains import Chain
from cola_learn.console import progress_bar
from cola_learn.rewards.judge import ModelJudge
from cola_learn.tasks.questions import Question, Sample, Template, as_sample
from cola_learn.train.controller import Controller
from cola_learn.train.controller_config import MAX_TOKENS
from cola_learn.train.features import prompt_features

_SECONDS = 60.0  # after which no further question is begun
_REPETITIONS = 3


@dataclass(frozen=True)
class Cost:
    """Of a question under a policy, as a share of what the same questions cost under the base chain.

    Attributes:
        flops: floating-point operations of matrix products and attention, on the question's own tokens.
        seconds: measured wall time, each question alone.
        questions: how many this was measured on.
    """

    flops: float
    seconds: float
    questions: int


def policy_costs(
    judge_of: Callable[[Question], ModelJudge],
    questions: Sequence[Question],
    template: Template,
    policies: Mapping[str, Sequence[Chain]],
    controllers: Mapping[str, Controller],
    count: int = 16,
) -> dict[str, Cost]:
    """Run some of the questions one at a time, nothing kept between them, as they would be served.

    Args:
        judge_of: what runs the chains of a question; with a prefix cache, layers that a controller reads are run once
            where its chain begins with them.
        questions: of which some are run, spread over all.
        template: how the questions are put.
        policies: the chain of every question, by policy; among them ``base``.
        controllers: those that have to choose first, by policy.
        count: how many questions are run; fewer where they take longer than a minute.
    """
    spent: dict[str, list[tuple[float, float]]] = defaultdict(list)
    begin = time.perf_counter()
    with progress_bar() as bar:
        places = sorted({round(place) for place in numpy.linspace(0, len(questions) - 1, count)})
        task = bar.add_task("costs", total=len(places), unit="questions", note="")
        for index in places:
            question, judge = questions[index], judge_of(questions[index])
            if index and time.perf_counter() - begin > _SECONDS:
                break
            sample = as_sample(question, template)
            work = {
                name: partial(_answer, judge, sample, chains[index], controllers.get(name))
                for name, chains in policies.items()
            }
            with judge.backbone.unfilled():
                flops = {name: count_flops(answer) for name, answer in work.items()}
            # by turns, so that what else the machine does meets all alike
            turns = [{name: seconds(answer) for name, answer in work.items()} for _ in range(_REPETITIONS)]
            for name in policies:
                spent[name].append((flops[name], min(turn[name] for turn in turns)))
            bar.advance(task)
        bar.update(task, completed=len(spent["base"]), total=len(spent["base"]))
    sums = {name: [sum(column) for column in zip(*rows, strict=True)] for name, rows in spent.items()}
    base_flops, base_seconds = sums["base"]
    return {
        name: Cost(flops / base_flops, seconds / base_seconds, len(spent["base"]))
        for name, (flops, seconds) in sums.items()
    }


def count_flops(work: Callable[[], object]) -> float:
    """Floating-point operations of the matrix products and the attention in a piece of work."""
    with FlopCounterMode(display=False, custom_mapping=_NOT_COUNTED_BY_TORCH) as counter:
        work()
    return float(counter.get_total_flops())


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a piece of work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _answer(judge: ModelJudge, sample: Sample, chain: Chain, controller: Controller | None) -> None:
    judge.open(sample)
    if controller is not None:
        layers = controller.config.feature_layers
        features = judge.read_prompt(sample.key, layers)
        if features is None or len(features) > MAX_TOKENS:
            features = prompt_features(judge.backbone, [sample.prompt], layers)[0]
        controller.choose(features)
    judge.run(sample.key, chain)
    judge.close(sample.key)


def _linear_flops(numbers: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(numbers) * weight[0]


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(query[:-1]) * key[-2] * (key[-1] + value[-1])


_NOT_COUNTED_BY_TORCH = {
    getattr(operations, name): flops
    for operations, name, flops in (
        (torch.ops.mkldnn, "_linear_pointwise", _linear_flops),  # of cola_learn.backbone.attention
        (torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", _attention_flops),
    )
    if hasattr(operations, name)  # not every build of torch has oneDNN
}
