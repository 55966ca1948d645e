"""Outcomes of a policy on held-out questions, and paired statistics against the base chain."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy import stats

from cola_learn.chains import Chain
from cola_learn.intervals import Interval, mcnemar, paired_difference


@dataclass(frozen=True)
class Outcome:
    """One question under one policy.

    Attributes:
        key: ``task/split/id``.
        chain: the chain that counted.
        reward, base_reward: of that chain and of the base chain, for the same target.
        choice: option answered with, or -1 where the chain's scores were not kept.
        target: option that counts as right.
    """

    key: str
    chain: Chain
    reward: float
    base_reward: float
    choice: int
    target: int


@dataclass(frozen=True)
class PolicySummary:
    """A policy's row in the report; rates are shares of the questions, depths are means over them.

    Attributes:
        transitions: counts of right_to_right, wrong_to_right, right_to_wrong, wrong_to_wrong (base to policy).
        difference: accuracy minus base accuracy, paired by question.
        p_value: two-sided exact McNemar test of that difference.
        corrected: of the answers wrong under base, the share right under the policy.
    """

    accuracy: float
    depth: float
    unique_depth: float
    transitions: dict[str, int]
    difference: Interval
    p_value: float
    corrected: float


def sees_gold(policy: str) -> bool:
    """Whether a policy uses the gold answer (or a wrong one in its place) and so cannot be deployed."""
    return policy.endswith("_oracle") or policy == "luck_control"


def summarize_policy(outcomes: Sequence[Outcome], seed: int = 0) -> PolicySummary:
    """Summarise one policy's outcomes, at least one."""
    names = {
        (1, 1): "right_to_right",
        (0, 1): "wrong_to_right",
        (1, 0): "right_to_wrong",
        (0, 0): "wrong_to_wrong",
    }
    transitions = dict.fromkeys(names.values(), 0)
    for outcome in outcomes:
        transitions[names[int(outcome.base_reward), int(outcome.reward)]] += 1
    wrong = transitions["wrong_to_right"] + transitions["wrong_to_wrong"]
    return PolicySummary(
        accuracy=float(numpy.mean([outcome.reward for outcome in outcomes])),
        depth=float(numpy.mean([outcome.chain.depth for outcome in outcomes])),
        unique_depth=float(numpy.mean([outcome.chain.unique_depth for outcome in outcomes])),
        transitions=transitions,
        difference=paired_difference(
            [outcome.reward for outcome in outcomes], [outcome.base_reward for outcome in outcomes], seed
        ),
        p_value=mcnemar(transitions["wrong_to_right"], transitions["right_to_wrong"]),
        corrected=transitions["wrong_to_right"] / wrong if wrong else 0.0,
    )


def p_value(values: NDArray[numpy.float64], others: NDArray[numpy.float64]) -> float:
    """McNemar's exact test where both are right or wrong, else a paired t test."""
    gains = numpy.round(values - others, 12)  # mixtures that are equal but for rounding
    if set(numpy.unique(gains)) <= {-1.0, 0.0, 1.0}:
        return mcnemar(int((gains > 0).sum()), int((gains < 0).sum()))
    return float(stats.ttest_rel(values, others).pvalue)
