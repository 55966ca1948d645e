"""The soft reward: log-probability of the gold option, at a temperature fitted on what the plain model makes of
questions."""

import math
from collections.abc import Mapping, Sequence

import numpy
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from cola_learn.chains import Chain
from cola_learn.rewards.scores import LEAST_PROBABILITY, Scores
from cola_learn.tasks.questions import Question

Array = NDArray[numpy.float64]
_WIDEST = 30.0  # times the scores' own spread, either way: few questions may be all right, or no better than chance


def fit_temperature(scores: Array, gold: NDArray[numpy.int64]) -> float:
    """The temperature ``t`` at which ``softmax(scores / t)`` gives the gold options the highest likelihood
    (Guo et al., arXiv 1706.04599).

    Scores of different metrics differ in scale: a log-likelihood has tens of nats between options, one per character a
    fraction of one. At their own temperature the probability of the gold option means the same under all of them.

    Args:
        scores: of the options under the plain model, minus infinity behind a question's last one, ``[Q, O]``.
        gold: index of the right option, ``[Q]``.
    """
    known = numpy.isfinite(scores)
    centred = numpy.where(known, scores - numpy.mean(scores, axis=1, where=known, keepdims=True), 0.0)
    spread = float(numpy.sqrt((centred**2).sum() / max(1, known.sum())))
    if not len(scores) or not spread:
        return 1.0

    def loss(log_scale: float) -> float:
        logprobs = log_softmax(scores / (spread * numpy.exp(log_scale)), axis=1)
        return -float(logprobs[numpy.arange(len(gold)), gold].mean())

    widest = float(numpy.log(_WIDEST))
    found = minimize_scalar(loss, bounds=(-widest, widest), method="bounded")
    return spread * float(numpy.exp(found.x))


def task_temperatures(tasks: Sequence[str], gold: Sequence[int], base: Sequence[Sequence[float]]) -> dict[str, float]:
    """The temperature of each task.

    Args:
        tasks: of each question.
        gold: index of the right option of each.
        base: the scores of the base chain on each, of its options.
    """
    found = {}
    for task in dict.fromkeys(tasks):
        rows = [row for row, name in enumerate(tasks) if name == task]
        scores = numpy.full((len(rows), max(len(base[row]) for row in rows)), -numpy.inf)
        for place, row in enumerate(rows):
            scores[place, : len(base[row])] = base[row]
        found[task] = fit_temperature(scores, numpy.array([gold[row] for row in rows]))
    return found


def soft_reward(scores: Scores, gold: int, temperature: float) -> float:
    """Log-probability of the gold option in nats, at least that of ``LEAST_PROBABILITY``.

    It is far less noisy than right or wrong, and being a proper scoring rule (Gneiting and Raftery 2007) it ranks
    chains as accuracy over many questions does; the probability itself hardly rewards what decides a close question.
    """
    return math.log(max(scores.probability(gold, temperature), LEAST_PROBABILITY))


def fitted(questions: Sequence[Question], found: Sequence[Mapping[Chain, Scores]]) -> dict[str, float]:
    """The temperature of each task, by what the plain model makes of some questions.

    Args:
        questions: what was scored.
        found: the scores of each question, those of the base chain first.
    """
    tasks, gold = [question.task for question in questions], [question.gold for question in questions]
    return task_temperatures(tasks, gold, [next(iter(scores.values())).values for scores in found])


def soft_rewards(questions: Sequence[Question], found: Sequence[Mapping[Chain, Scores]]) -> dict[Chain, Array]:
    """Soft rewards of each chain on Q questions, in nats, ``[Q]`` each.

    Args:
        questions: what was scored.
        found: the scores of each question: of the same chains, the base chain first.
    """
    temperatures = fitted(questions, found)
    rows = list(zip(questions, found, strict=True))
    return {
        chain: numpy.array([soft_reward(own[chain], one.gold, temperatures[one.task]) for one, own in rows])
        for chain in found[0]
    }
