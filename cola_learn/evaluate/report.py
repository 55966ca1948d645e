"""What an evaluation found, as ``report.json`` holds it, and what is said of it in a sentence each."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from cola_learn.evaluate.breakdown import Reliability
from cola_learn.evaluate.results import LuckControl, PolicyRow
from cola_learn.files import as_value
from cola_learn.stats import Interval, detectable, holm

DIFFERENCES = ("to_base", "to_static", "to_shuffled", "to_shuffled_in_task")
EXPLAINED = {
    "base": "the plain model",
    "static": "one chain for all questions, the best on labelled questions that is no deeper than the first controller",
    "static_front": "a random mixture of two static chains at the target depth",
    "static_per_task_oracle": "the best static chain of each task, which is told the task's name",
    "ridge": "ridge regression from the prompt to each chain's gain",
    "task_reader": "gains of chains on each task, weighted by how probable the prompt makes the task",
    "menu_oracle": "the first chain of the menu that is right, chosen with the gold answer",
    "search_oracle": "the shallowest right chain that a full search finds with the gold answer",
}


@dataclass(frozen=True)
class Report:
    """Results of one evaluation.

    Attributes:
        n: number of held-out questions.
        labelled: number of labelled ones, on which everything was chosen and fitted.
        groups: how many of the questions are of which task, and of each other group of ``breakdown.groupings``.
        controllers: digest of the weights of each controller, by its name in the rows; the first is what the report is
            about.
        setting: what was evaluated on what, for people.
        rows: the policies, the plain model first.
        luck: control of the search.
        reliability: of the gains that controllers predict.
        identity: changes with everything that the numbers depend on.
    """

    n: int
    labelled: int
    groups: dict[str, dict[str, int]]
    controllers: dict[str, str]
    setting: dict[str, str]
    rows: tuple[PolicyRow, ...]
    luck: LuckControl | None = None
    reliability: tuple[Reliability, ...] = ()
    identity: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Report":
        """The inverse of ``as_json``.

        Raises:
            ValueError: if it is none.
        """
        report = as_value(cls, {name: value for name, value in values.items() if name != "headline"})
        known = {row.name for row in report.rows}
        if missing := {"base", "static", *report.controllers} - known:
            raise ValueError(f"policy {min(missing)} is missing")
        return report

    def as_json(self) -> dict[str, Any]:
        return {"headline": self.headline, **asdict(self)}

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.groups["task"])

    @property
    def measure(self) -> str:
        """What the mean reward is called."""
        return self.setting.get("measure", "accuracy")

    @property
    def title(self) -> str:
        """What it is of: its tasks, or how many."""
        return self.setting["tasks"] if len(self.tasks) < 4 else f"{len(self.tasks)} tasks"

    @cached_property
    def by_name(self) -> dict[str, PolicyRow]:
        """The rows by their names, such as ``value at 85%``."""
        return {row.name: row for row in self.rows}

    @property
    def main(self) -> PolicyRow:
        """The first controller; the static chain where there is none."""
        return self.by_name[next(iter(self.controllers), "static")]

    @property
    def deployable(self) -> list[PolicyRow]:
        """Rows of policies that know no more than a deployed one."""
        return [row for row in self.rows if not row.oracle]

    @property
    def headline(self) -> str:
        """The result in one sentence; how the controller compares with static chains comes first."""
        base, row = self.rows[0], self.main
        name = f"The {row.policy}" if row.policy in ("controller", "static") else row.policy[0].upper() + row.policy[1:]
        if not self.controllers:
            said = f"No controller was evaluated; the best static chain has {self._mean(row)}"
        elif row.to_static is None:
            said = f"{name} is shallower than every static chain"
        else:
            over = self.compared(row, "to_static", "the static front at equal depth")
            said = f"{name} is {over}: {self._mean(row)} with {row.depth:.1f} layers"
        costs = [f"{_compared(row.depth / base.depth, 'fewer', 'more', 'as many')} layers"]
        if row.cost is not None:
            costs.append(f"{_compared(row.cost.seconds, 'less', 'more', 'as much')} time")
        return (
            f"{said}; {self.compared(row, 'to_base', 'the plain model')} with {' and '.join(costs)}, on {self.n} "
            "held-out questions."
        )

    def _mean(self, row: PolicyRow) -> str:
        return f"{row.accuracy:.1%}" if self.measure == "accuracy" else f"{row.accuracy:.1%} {self.measure}"

    def compared(self, row: PolicyRow, difference: str, other: str) -> str:
        """A difference in words, alike in both directions: ``0.7 points above the plain model (95% CI -0.3 to +1.6,
        not significant)``."""
        gap: Interval = getattr(row, difference)
        points = round(100 * gap.mean, 1)
        where = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if points else "level with"
        surely = "" if self.significant(row, difference) else "not "
        return f"{where} {other} (95% CI {100 * gap.low:+.1f} to {100 * gap.high:+.1f}, {surely}significant)"

    @property
    def best_row(self) -> PolicyRow:
        """The best deployable policy that runs no more layers than the plain model."""
        most = self.rows[0].depth
        return best_of(row for row in self.deployable if row.policy != "static_front" and row.depth <= most)

    @property
    def best(self) -> str:
        """The best deployable policy in one sentence."""
        row = self.best_row
        chain = f" (chain {row.chain})" if row.chain and row.policy != "base" else ""
        said = f"Best deployable policy: {row.name}{chain}, {self._mean(row)} with {row.depth:.1f} layers"
        if row.cost is not None:
            said += f", {row.cost.flops:.0%} of base's FLOPs and {row.cost.seconds:.0%} of its time"
        if row.policy == "base":
            return f"{said}."
        return f"{said}; {self.compared(row, 'to_base', 'the plain model')}."

    @property
    def power(self) -> str:
        """What difference to base so many questions can show."""
        row = self.main
        discordant = (row.won + row.lost) / self.n
        if not discordant or self.measure != "accuracy":
            return ""
        least = 100 * detectable(discordant, self.n)
        if least > 100:
            return f"{self.n} questions are too few to show any difference between {row.policy} and base."
        return (
            f"{self.n} questions show a difference of {least:.1f} points between {row.policy} and base with 80% power; "
            "a smaller one is easily missed."
        )

    @property
    def luck_said(self) -> str:
        """What the luck control says of the search, in one sentence; empty without a search."""
        search = self.by_name.get("search_oracle")
        if search is None or self.measure != "accuracy":
            return ""
        said = f"Of the answers that base gets wrong, search corrects {search.corrected:.0%}"
        if self.luck is None:
            return f"{said}."
        luck = self.luck
        return f"{said}; the same search for another wrong option succeeds in {luck.reached:.0%} of {luck.questions}."

    @cached_property
    def p_holm(self) -> dict[str, dict[str, float]]:
        """p-values by kind of difference and by name, corrected (Holm) for the number of deployable policies."""
        rows = [row for row in self.deployable if row.policy != "base"]
        found = {}
        for kind in DIFFERENCES:
            every = {row.name: getattr(row, kind.replace("to_", "p_")) for row in rows}
            found[kind] = holm({name: p for name, p in every.items() if p is not None})
        return found

    def significant(self, row: PolicyRow, difference: str) -> bool:
        """Whether a difference of a deployable policy is below p = 0.05, corrected."""
        return self.p_holm[difference].get(row.name, 1.0) < 0.05

    @property
    def measured(self) -> str:
        """On how many questions costs were measured; empty where they were not."""
        cost = self.rows[0].cost
        if cost is None:
            return ""
        return f"{cost.questions} questions, one at a time" if cost.questions > 1 else "on one question"

    def numbers(self) -> dict[str, dict[str, float]]:
        """Flat numbers of every policy, by name."""
        return {
            row.name: {
                "accuracy": row.accuracy,
                "depth": row.depth,
                "difference": row.to_base.mean,
                "difference_low": row.to_base.low,
                "difference_high": row.to_base.high,
                "p_value": row.p_base,
                "to_static": math.nan if row.to_static is None else row.to_static.mean,
                "to_shuffled": math.nan if row.to_shuffled is None else row.to_shuffled.mean,
                "corrected": row.corrected,
                "loss": math.nan if row.loss is None else row.loss,
                "saved": math.nan if row.saved is None else row.saved.mean,
                "flops": row.cost.flops if row.cost else math.nan,
                "seconds": row.cost.seconds if row.cost else math.nan,
            }
            for row in self.rows
        }


def best_of(rows: Iterable[PolicyRow]) -> PolicyRow:
    """The row with the highest accuracy; of equal ones the shallowest, then the cheapest."""
    return max(rows, key=lambda row: (row.accuracy, -row.depth, -row.cost.flops if row.cost else 0.0))


def explained(row: PolicyRow) -> str:
    """What a policy is."""
    if row.policy in EXPLAINED:
        return EXPLAINED[row.policy]
    if row.policy.startswith("static_") and row.chain:
        return f"the chain {row.chain} for all questions, a corner of the static front"
    if row.oracle:
        return "the best of the most probable chains of a controller, chosen with the gold answer"
    if ", mean of" in row.policy:
        return "mean over controllers that differ in their seeds"
    if ", ensemble of" in row.policy:
        return "chosen by the mean utility of controllers that differ in their seeds"
    return "the chain that the controller or policy chooses for each question"


def _compared(ratio: float, less: str, more: str, equal: str) -> str:
    percent = round(100 * abs(ratio - 1))
    return f"{percent}% {less if ratio < 1 else more}" if percent else equal
