"""What a policy makes of the held-out questions, and its row in the report."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy

from cola_learn.chains import Chain
from cola_learn.evaluate.breakdown import Groups, Reliability, differences_by_group
from cola_learn.evaluate.costs import Cost
from cola_learn.evaluate.static_front import HeldFront
from cola_learn.label.score_matrix import Array
from cola_learn.stats import Interval, p_value, paired_difference, share_saved
from cola_learn.tasks.questions import Question


@dataclass(frozen=True, eq=False)
class Result:
    """A policy, at one depth, on Q held-out questions.

    Attributes:
        policy: its name.
        rewards: 1 where it answers rightly, else 0; between them for coins and means of seeds, ``[Q]``.
        layers: that it runs, ``[Q]``.
        target: the mean depth that it was set to, as a share of the base chain's; None for those without a price, and
            for controllers at their own.
        price: of depth, as ``--price`` takes it, where a controller has one.
        chains: the chain of each question; None for those that run several, or flip coins.
        answers: the option that each question is answered with, -1 for none; None where that is not known.
        oracle: whether it knows what no deployed policy can: the gold answer, or the task's name.
        shuffled: rewards of its choices dealt to other questions, in the mean over several ways to deal them, ``[Q]``.
        shuffled_in_task: the same, dealt to other questions of the same task.
        collapse: diagnostics of the choice.
        gains: in soft reward over the base chain, where rewards are measures, in nats, ``[Q]``.
    """

    policy: str
    rewards: Array
    layers: Array
    target: float | None = None
    price: float | None = None
    chains: tuple[Chain, ...] | None = None
    answers: tuple[int, ...] | None = None
    oracle: bool = False
    shuffled: Array | None = None
    shuffled_in_task: Array | None = None
    collapse: Mapping[str, float] = field(default_factory=dict)
    gains: Array | None = None

    @property
    def name(self) -> str:
        """Such as ``controller at 85%``."""
        return named(self.policy, self.target)


@dataclass(frozen=True)
class LuckControl:
    """The search for another wrong option in the place of the gold one, where base answers wrongly.

    Attributes:
        questions: how many.
        reached: share of them that it succeeds on: what luck alone finds.
    """

    questions: int
    reached: float


@dataclass(frozen=True, eq=False)
class Evaluated:
    """All that a report is made of.

    Attributes:
        questions: Q held-out ones.
        results: of every policy, the plain model first.
        front: static chains to compare with.
        groups: of the questions.
        costs: by the name of a result, where they were measured.
        luck: control of the search, where there is one.
        reliability: of the gains that controllers predict.
        setting: what was evaluated on what, for people.
        gains_front: the front with gains, where rewards are measures.
    """

    questions: tuple[Question, ...]
    results: tuple[Result, ...]
    front: HeldFront
    groups: Groups
    costs: Mapping[str, Cost] = field(default_factory=dict)
    luck: LuckControl | None = None
    reliability: tuple[Reliability, ...] = ()
    setting: Mapping[str, str] = field(default_factory=dict)
    gains_front: HeldFront | None = None

    def result(self, name: str) -> Result:
        """The one of a name, such as ``controller at 85%``."""
        return next(result for result in self.results if result.name == name)

    def rows(self, seed: int = 0) -> "tuple[PolicyRow, ...]":
        """A row for each result."""
        base = self.results[0].rewards
        return tuple(
            row_of(result, base, self.front, self.groups, self.costs.get(result.name), seed, self.gains_front)
            for result in self.results
        )


@dataclass(frozen=True)
class PolicyRow:
    """A policy's row in the report. Differences are in accuracy, paired by question, with bootstrap 95% intervals; p is
    of McNemar's exact test, or of a paired t test where rewards are fractions.

    Attributes:
        policy, target, price, oracle: as of a ``Result``.
        accuracy: share of the questions answered rightly.
        depth, unique_depth: mean number of layers executed, and of distinct ones; None where several chains are run.
        won, lost: questions that are wrong under base and right under the policy, and the other way round.
        corrected: of the answers wrong under base, the share right under the policy.
        to_base, p_base: difference to the plain model.
        to_static, p_static: difference to the static front at the same depth; None below the front.
        static: the static chains that the front is made of at this depth, with their chances.
        to_shuffled, p_shuffled: difference to its own choices dealt to other questions: what depends on the input.
        to_shuffled_in_task, p_shuffled_in_task: to its choices dealt within tasks: what it reads beside the task.
        by_group: difference to base in each group of questions of ``breakdown.groupings``.
        collapse: diagnostics of the choice; empty for policies that run several chains.
        cost: of a question, where it was measured.
        chain: the one that it runs for all questions; "" where it runs several.
        loss: mean loss to the base chain, in nats a token, where rewards are measures.
        worst: the loss that 5% of the questions exceed.
        saved: the share of the static front's loss at the same depth that is not lost.
    """

    policy: str
    target: float | None
    price: float | None
    oracle: bool
    accuracy: float
    depth: float
    unique_depth: float | None
    won: float
    lost: float
    corrected: float
    to_base: Interval
    p_base: float
    to_static: Interval | None
    p_static: float | None
    static: str
    to_shuffled: Interval | None
    p_shuffled: float | None
    to_shuffled_in_task: Interval | None
    p_shuffled_in_task: float | None
    by_group: dict[str, dict[str, float]]
    collapse: dict[str, float]
    cost: Cost | None = None
    chain: str = ""
    loss: float | None = None
    worst: float | None = None
    saved: Interval | None = None

    @property
    def name(self) -> str:
        """Such as ``controller at 85%``."""
        return named(self.policy, self.target)


def named(policy: str, target: float | None) -> str:
    return policy if target is None else f"{policy} at {target:.0%}"


def row_of(
    result: Result,
    base: Array,
    front: HeldFront,
    groups: Groups,
    cost: Cost | None = None,
    seed: int = 0,
    gains_front: HeldFront | None = None,
) -> PolicyRow:
    """The row of a result.

    Args:
        result: on Q questions.
        base: rewards of the plain model, ``[Q]``.
        front: static chains to compare with.
        groups: of the questions.
        cost: what was measured.
        seed: of the bootstrap.
        gains_front: the front with gains, where rewards are measures.
    """
    rewards, wrong = result.rewards, 1 - base
    won = float((rewards * wrong).sum())
    depth = float(result.layers.mean())
    mixture = front.at(depth)
    others = {
        "base": base,
        "static": None if mixture is None else mixture.rewards,
        "shuffled": result.shuffled,
        "shuffled_in_task": result.shuffled_in_task,
    }
    differences = {
        name: None if other is None else paired_difference(rewards, other, seed) for name, other in others.items()
    }
    p = {name: None if other is None else p_value(rewards, other) for name, other in others.items()}
    lost, least = None if result.gains is None else 0.0 - result.gains, gains_front and gains_front.at(depth)
    to_base, p_base = differences["base"], p["base"]
    assert to_base is not None
    assert p_base is not None
    return PolicyRow(
        policy=result.policy,
        target=result.target,
        price=result.price,
        oracle=result.oracle,
        accuracy=float(rewards.mean()),
        depth=depth,
        unique_depth=_unique(result.chains),
        won=won,
        lost=float(((1 - rewards) * base).sum()),
        corrected=won / float(wrong.sum()) if wrong.any() else 0.0,
        to_base=to_base,
        p_base=p_base,
        to_static=differences["static"],
        p_static=p["static"],
        static="" if mixture is None else mixture.text,
        to_shuffled=differences["shuffled"],
        p_shuffled=p["shuffled"],
        to_shuffled_in_task=differences["shuffled_in_task"],
        p_shuffled_in_task=p["shuffled_in_task"],
        by_group=differences_by_group(rewards - base, groups),
        collapse=dict(result.collapse),
        cost=cost,
        chain=str(result.chains[0]) if result.chains and len(set(result.chains)) == 1 else "",
        loss=None if lost is None else float(lost.mean()),
        worst=None if lost is None else float(numpy.quantile(lost, 0.95)),
        saved=share_saved(lost, -least.rewards, seed) if lost is not None and least and least.rewards.any() else None,
    )


def _unique(chains: Sequence[Chain] | None) -> float | None:
    return None if chains is None else float(numpy.mean([chain.unique_depth for chain in chains]))


def means_of_seeds(results: Sequence[Result], names: Iterable[str]) -> list[Result]:
    """For controllers that differ in a number at the end of their names (seeds) the mean over them, at each depth."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(seedless(name), []).append(name)
    found = {(result.policy, result.target): result for result in results}
    return [
        _mean_of(f"{name}, mean of {len(members)}", [found[member, target] for member in members])
        for name, members in groups.items()
        if len(members) > 1
        for policy, target in found
        if policy == members[0]
    ]


def seedless(name: str) -> str:
    """The name without the number at its end."""
    return re.sub(r"-\d+$", "", name)


def _mean_of(name: str, members: Sequence[Result]) -> Result:
    def mean(attribute: str) -> Array | None:
        values = [getattr(member, attribute) for member in members]
        return None if any(value is None for value in values) else numpy.mean(values, axis=0)

    rewards, layers = mean("rewards"), mean("layers")
    assert rewards is not None
    assert layers is not None
    return Result(
        name,
        rewards,
        layers,
        members[0].target,
        gains=mean("gains"),
        shuffled=mean("shuffled"),
        shuffled_in_task=mean("shuffled_in_task"),
    )
