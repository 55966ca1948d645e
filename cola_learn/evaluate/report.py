"""The report: a table in the terminal, JSON for machines, and one self-contained HTML page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from rich.table import Table

from cola_learn.chains import Chain
from cola_learn.console import PlainConsole
from cola_learn.evaluate import figures
from cola_learn.evaluate.costs import Cost
from cola_learn.evaluate.statistics import Outcome, PolicySummary, sees_gold
from cola_learn.files import as_value, write_text
from cola_learn.intervals import detectable, holm, points
from cola_learn.tasks.questions import Question

_EXAMPLES = 10  # questions won, and as many lost
EXPLAINED = {
    "base": "the plain model",
    "static": "one chain for all questions, chosen on the labelled training questions, no deeper than the controller",
    "shuffled_prompt": "the controller fed another question's prompt",
    "controller": "the chain that the controller writes (top-1)",
    "controller_top5_oracle": "the best of the controller's five chains, chosen with the gold answer",
    "search_oracle": "the shallowest right chain that a full search finds with the gold answer",
    "luck_control": "the same search for another wrong option, where base answers wrongly: what luck finds",
}


@dataclass(frozen=True)
class Report:
    """Results of one evaluation.

    Attributes:
        n: number of questions.
        policies: a summary a policy, in display order.
        costs: of the policies that do not see the gold answer.
        setting: what was evaluated on what, for people.
        identity: changes with everything that the numbers depend on.
    """

    n: int
    policies: Mapping[str, PolicySummary]
    costs: Mapping[str, Cost]
    setting: Mapping[str, str]
    identity: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Report":
        """The inverse of ``as_json``.

        Raises:
            ValueError: if it is none.
        """
        report = as_value(cls, {name: value for name, value in values.items() if name != "headline"})
        if missing := {"base", "static", "controller"} - report.policies.keys() | {"controller"} - report.costs.keys():
            raise ValueError(f"policy {min(missing)} is missing")
        return report

    @property
    def headline(self) -> str:
        """The result in one sentence; says first when the controller is no better than a static chain."""
        base, static, controller = (self.policies[name] for name in ("base", "static", "controller"))
        gap = 100 * (controller.accuracy - static.accuracy)
        if gap < 0:
            verdict = f"The controller loses to the best static chain of no more depth by {-gap:.1f} points"
        elif gap == 0:
            verdict = "The controller is no better than the best static chain of no more depth"
        else:
            verdict = f"The controller is {gap:.1f} points above the best static chain of no more depth"
        change, time = controller.difference, self.costs["controller"].seconds
        return (
            f"{verdict} ({controller.accuracy:.1%} at depth {controller.depth:.1f} against "
            f"{static.accuracy:.1%} at {static.depth:.1f}); against the plain model it changes accuracy by "
            f"{100 * change.mean:+.1f} points (95% interval {100 * change.low:+.1f} to {100 * change.high:+.1f}) "
            f"with {_compared(controller.depth / base.depth, 'fewer', 'more', 'as many')} layers and "
            f"{_compared(time, 'less', 'more', 'as much')} time, on {self.n} held-out questions."
        )

    @property
    def best(self) -> str:
        """The best deployable policy, in one sentence; of equal ones the cheapest."""
        name = max(self.costs, key=lambda policy: (self.policies[policy].accuracy, -self.costs[policy].seconds))
        row, cost = self.policies[name], self.costs[name]
        return (
            f"Best deployable policy: {name}, {row.accuracy:.1%} with {row.depth:.1f} layers, "
            f"{cost.flops:.0%} of base's FLOPs and {cost.seconds:.0%} of its time."
        )

    @property
    def power(self) -> str:
        """What difference to base so many questions can show."""
        moves = self.policies["controller"].transitions
        discordant = (moves["wrong_to_right"] + moves["right_to_wrong"]) / self.n
        if not discordant:
            return ""
        least = 100 * detectable(discordant, self.n)
        if least > 100:
            return f"{self.n} questions are too few to show any difference between controller and base."
        return (
            f"{self.n} questions show a difference of {least:.1f} points between controller and base with 80% power; "
            "a smaller one is easily missed."
        )

    @property
    def luck(self) -> str:
        """What the luck control says of the search, in one sentence."""
        search, control = self.policies["search_oracle"], self.policies.get("luck_control")
        said = f"Of the answers that base gets wrong, search corrects {search.corrected:.0%}"
        if control is None:
            return f"{said}."
        count = sum(control.transitions.values())
        return f"{said}; the same search for another wrong option succeeds in {control.corrected:.0%} of {count}."

    @property
    def p_values(self) -> dict[str, float]:
        """Of the differences to base of deployable policies, corrected for their number."""
        return holm({name: self.policies[name].p_value for name in self.costs if name != "base"})

    @property
    def compared(self) -> dict[str, PolicySummary]:
        """All policies but the luck control, which is of other questions and has no difference to base."""
        return {name: row for name, row in self.policies.items() if name != "luck_control"}

    def rows(self) -> dict[str, dict[str, float]]:
        """Flat numbers of every policy."""
        return {
            name: {
                "accuracy": row.accuracy,
                "depth": row.depth,
                "unique_depth": row.unique_depth,
                "difference": row.difference.mean,
                "difference_low": row.difference.low,
                "difference_high": row.difference.high,
                "p_value": row.p_value,
                "corrected": row.corrected,
                "flops": self.costs[name].flops if name in self.costs else math.nan,
                "seconds": self.costs[name].seconds if name in self.costs else math.nan,
            }
            for name, row in self.policies.items()
        }

    def table(self) -> list[list[Any]]:
        return [[name, *row.values()] for name, row in self.rows().items()]

    def as_json(self) -> dict[str, Any]:
        return {
            "headline": self.headline,
            "n": self.n,
            "identity": self.identity,
            "setting": dict(self.setting),
            "policies": {name: asdict(row) for name, row in self.policies.items()},
            "costs": {name: asdict(row) for name, row in self.costs.items()},
        }


def print_report(report: Report) -> None:
    """Print the headline and the table to standard output."""
    console = PlainConsole(width=100)
    console.print(f"\n{report.headline}\n{report.best}\n", style="bold")
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("policy", "accuracy", "depth", "FLOPs", "time", "Δ accuracy, points (95% CI)", "w>r", "r>w"):
        table.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for name, row in report.compared.items():
        moves = row.transitions
        cost = report.costs.get(name)
        table.add_row(
            name,
            f"{row.accuracy:.1%}",
            f"{row.depth:.1f}",
            *((f"{cost.flops:.0%}", f"{cost.seconds:.0%}") if cost else ("", "")),
            points(row.difference),
            *(str(moves[key]) for key in ("wrong_to_right", "right_to_wrong")),
            style="bold" if name == "controller" else ("dim" if sees_gold(name) else None),
        )
    console.print(table)
    console.print(
        "\nΔ: against base. r>w: right under base, wrong under the policy. Oracles see the gold answer.\n"
        "FLOPs, time: cost per question relative to base, controller included; "
        f"{_measured(report)}.\n"
        f"{report.luck}\n{report.power}\n"
        f"{report.n} questions, {report.setting['task']} {report.setting['split']}; labels: "
        f"{report.setting['labels']}.\n",
        style="dim",
    )


def _measured(report: Report) -> str:
    count = report.costs["base"].questions
    return f"{count} questions, one at a time" if count > 1 else "on one question"


def _compared(ratio: float, less: str, more: str, equal: str) -> str:
    percent = round(100 * abs(ratio - 1))
    return f"{percent}% {less if ratio < 1 else more}" if percent else equal


def write_html(
    path: Path, report: Report, outcomes: Mapping[str, Sequence[Outcome]], questions: Mapping[str, Question]
) -> None:
    """Write the page: one file, no script, nothing loaded from elsewhere, all dataset text escaped."""
    num_layers = outcomes["base"][0].chain.num_layers
    environment = Environment(loader=PackageLoader("cola_learn.evaluate", "."), autoescape=True)
    pairs = list(zip(outcomes["base"], outcomes["controller"], strict=True))
    page = environment.get_template("report.html").render(
        report=report,
        explained=EXPLAINED,
        measured=_measured(report),
        sees_gold=sees_gold,
        num_layers=num_layers,
        depth_plot=Markup(figures.accuracy_against_depth(report.compared, num_layers)),
        strips=[
            (name, layer_shares([outcome.chain for outcome in outcomes[name]]))
            for name in ("static", "controller", "search_oracle")
        ],
        won=[(questions[own.key], base, own) for base, own in pairs if own.reward > base.reward][:_EXAMPLES],
        lost=[(questions[own.key], base, own) for base, own in pairs if own.reward < base.reward][:_EXAMPLES],
    )
    write_text(path, page)


def layer_shares(chains: Sequence[Chain]) -> list[tuple[float, float]]:
    """For each layer the shares of chains that skip it and that run it more than once."""
    counts = [[chain.layers.count(layer) for chain in chains] for layer in range(chains[0].num_layers)]
    return [
        (sum(count == 0 for count in layer) / len(chains), sum(count > 1 for count in layer) / len(chains))
        for layer in counts
    ]
