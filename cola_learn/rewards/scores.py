"""Scores of one chain on one question: of its options, or verdicts on its answers."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy

Measure = Literal["likelihood", "fidelity", "acceptance"]
Numbers = Any  # a float, or an array of them
LEAST_PROBABILITY = 1e-3  # of a gold option, or of a response's tokens: below it no chain is worse than another
LEAST_MARGIN = math.log(LEAST_PROBABILITY)  # of a response, in nats a token


class Scores(Protocol):
    """What one chain makes of one question, for any answer that might be gold."""

    @property
    def values(self) -> tuple[float, ...]:
        """The score of every answer."""

    @property
    def choice(self) -> int:
        """Index of the answer given; -1 if it is none of the question's."""

    def reward(self, gold: int) -> float:
        """1.0 if the answer is ``gold``, else 0.0."""

    def probability(self, gold: int, temperature: float = 1.0) -> float:
        """How probable the answer ``gold`` is: a reward far less noisy than right or wrong."""

    def margin(self, gold: int) -> float:
        """By how much ``gold`` wins, in nats; negative where it loses."""


@dataclass(frozen=True)
class OptionScores:
    """The score of every option under one chain, in nats: sum of token log-probabilities (``acc``), that per character
    (``acc_norm``) or less the same without the question (``pmi``). Which is right is not known here.
    """

    values: tuple[float, ...]

    @property
    def choice(self) -> int:
        """The option the backbone answers with: the best score, the first of equals."""
        return self.values.index(max(self.values))

    def reward(self, gold: int) -> float:
        """1.0 if the answer is ``gold``, else 0.0."""
        return float(self.choice == gold)

    def probability(self, gold: int, temperature: float = 1.0) -> float:
        """Softmax of the scores over a temperature at ``gold``: a reward far less noisy than right or wrong."""
        best = max(self.values)
        raised = [math.exp((value - best) / temperature) for value in self.values]
        return raised[gold] / sum(raised)

    def margin(self, gold: int) -> float:
        """Score of ``gold`` minus the best other score."""
        return self.values[gold] - max(self.values[:gold] + self.values[gold + 1 :])


@dataclass(frozen=True)
class ResponseScores:
    """What one chain makes of a given response, beside the base chain.

    Attributes:
        logprob: mean log-probability of its tokens, in nats.
        halves: the same of every other chunk of tokens, and of the chunks between: what is chosen by the first half is
            measured on the second.
        divergence: Kullback-Leibler divergence of the chain's next-token distribution from the base chain's, in the
            mean over its positions, in nats.
        accepted: share of its positions at which both predict the same token.
        measure: which of them is the reward.
        base: ``logprob`` of the base chain.
    """

    logprob: float
    halves: tuple[float, float]
    divergence: float
    accepted: float
    measure: Measure
    base: float

    @property
    def values(self) -> tuple[float, ...]:
        """Both halves, the divergence and the share accepted."""
        return (*self.halves, self.divergence, self.accepted)

    @property
    def choice(self) -> int:
        """There is one response."""
        return 0

    def reward(self, gold: int) -> float:
        """1.0 for what is as the base chain is: its bits per byte over the chain's (``likelihood``), the exponential of
        minus the divergence (``fidelity``), or the share accepted (``acceptance``)."""
        return float(self._measured[0])

    def probability(self, gold: int, temperature: float = 1.0) -> float:
        """The exponential of the margin."""
        return math.exp(self.margin(gold))

    def margin(self, gold: int) -> float:
        """What differences of are gains, in nats a token: the log-probability, minus the divergence, or the logarithm
        of the share accepted."""
        return float(self._measured[1])

    @property
    def _measured(self) -> tuple[Numbers, Numbers]:
        return measured(self.measure, self.logprob, self.base, self.divergence, self.accepted)


def measured(
    measure: Measure, logprob: Numbers, base: Numbers, divergence: Numbers, accepted: Numbers
) -> tuple[Numbers, Numbers]:
    """Rewards and margins by a measure, of what ``ResponseScores`` holds, one number each or arrays of them."""
    if measure == "likelihood":
        return numpy.divide(base, logprob) if numpy.all(logprob) else numpy.ones_like(logprob), logprob
    if measure == "fidelity":
        return numpy.exp(numpy.negative(divergence)), numpy.negative(divergence)
    return accepted, numpy.log(numpy.maximum(accepted, LEAST_PROBABILITY))


@dataclass(frozen=True)
class AnswerScores:
    """What one chain makes of an open question's answers, in their order.

    Attributes:
        right: whether it writes the answer, in any spelling.
        leads: of the spelling that comes closest, how far its tokens lead all others where they lead least, in nats;
            negative where another token leads. 0 where answers are generated.
        logprobs: log-probability of all spellings together.
    """

    right: tuple[bool, ...]
    leads: tuple[float, ...]
    logprobs: tuple[float, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """The log-probabilities."""
        return self.logprobs

    @property
    def choice(self) -> int:
        """Index of the answer written; -1 if it is none of them."""
        return self.right.index(True) if any(self.right) else -1

    def reward(self, gold: int) -> float:
        """1.0 if the answer ``gold`` is written, else 0.0."""
        return float(self.right[gold])

    def probability(self, gold: int, temperature: float = 1.0) -> float:
        """Probability of the spellings of ``gold``, whatever the temperature."""
        return math.exp(min(0.0, self.logprobs[gold]))

    def margin(self, gold: int) -> float:
        """The lead of ``gold``."""
        return self.leads[gold]
