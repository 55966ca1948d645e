"""What the metric makes of the chains of a menu: accuracy of base and differences to it under each, from stored scores.

    python -m benchmarks.studies.metrics

No model runs. ``sums`` holds log-likelihoods, ``menu`` the same chains scored as OLMES recommends; where that is
``pmi`` the two differ by the score of an option without its question, so that it is known through every chain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
from rich.table import Table
from scipy.optimize import minimize
from scipy.special import log_softmax

from cola_learn.command import Command
from cola_learn.console import PlainConsole, console
from cola_learn.label.score_matrix import Array, ScoreMatrix, open_stores
from cola_learn.stats import paired_difference, points
from cola_learn.tasks.registry import BENCHMARKS


@dataclass(frozen=True)
class MetricOptions:
    """Options of the table.

    Attributes:
        sums: folder with ``pool`` and ``held``, scored by ``acc``.
        menu: the same questions through these chains and maybe others, scored by ``auto``.
        seed: of the bootstrap.
    """

    sums: Path = Path("data/menu_sums")
    menu: Path = Path("data/menu")
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Scored:
    """Of Q questions: their log-likelihoods, those without the question (0 where not known), and lengths of the
    options in characters, ``[Q, C, O]`` or ``[Q, O]``."""

    table: ScoreMatrix
    alone: Array
    lengths: Array

    @classmethod
    def of(cls, sums: Path, menu: Path) -> "Scored":
        table = ScoreMatrix.load(open_stores(sums), temperatures={})
        wide = ScoreMatrix.load(open_stores(menu), temperatures={})
        rows = {question.key: row for row, question in enumerate(wide.questions)}
        order = [rows[question.key] for question in table.questions]
        same = wide.scores[order][:, [wide.chains.index(chain) for chain in table.chains]]
        pmi = numpy.array([BENCHMARKS[task].metric == "pmi" for task in table.tasks.tolist()])
        known = numpy.isfinite(table.scores)
        alone = numpy.where(pmi[:, None, None] & known, numpy.where(known, table.scores, 0) - same, 0.0)
        most = table.scores.shape[2]
        lengths = [[*map(len, question.choices), *[1] * (most - len(question.choices))] for question in table.questions]
        return cls(table, alone, numpy.array(lengths, dtype=float)[:, None])

    def by(self, metric: Callable[[str], str]) -> Array:
        """Scores by the metric of each task."""
        found = self.table.scores.copy()
        for task in set(self.table.tasks.tolist()):
            own = self.table.tasks == task
            kind = metric(task)
            if kind == "acc_norm":
                found[own] /= self.lengths[own]
            elif kind == "pmi":
                found[own] -= self.alone[own]
            elif kind == "pmi_base":
                found[own] -= self.alone[own][:, :1]
        return found


def _recommended(task: str) -> str:
    return BENCHMARKS[task].metric


METRICS: dict[str, Callable[[str], str]] = {
    "acc": lambda task: "acc",
    "acc_norm": lambda task: "acc_norm",
    "auto": _recommended,
    "auto, pmi through base": lambda task: "pmi_base" if _recommended(task) == "pmi" else _recommended(task),
}


def corrected(pool: Scored, held: Scored) -> Array:
    """Rewards ``[Q]`` of base with a correction by length: a conditional logit for each task, fitted on training
    questions, on an option's score, its score per character, its length and the logarithm of that."""

    def properties(one: Scored, own: Array) -> Array:
        sums, lengths = one.table.scores[own][:, 0], one.lengths[own][:, 0]
        known = numpy.isfinite(sums)
        flat = numpy.where(known, sums, 0.0)
        return numpy.where(known[..., None], numpy.stack([flat, flat / lengths, lengths, numpy.log(lengths)], -1), 0.0)

    right = numpy.zeros(len(held.table))
    for task in set(held.table.tasks.tolist()):
        mine, theirs = pool.table.tasks == task, held.table.tasks == task
        told, asked = properties(pool, mine), properties(held, theirs)
        scale = told.std((0, 1)) + 1e-9
        missing = numpy.where(numpy.isfinite(pool.table.scores[mine][:, 0]), 0.0, -numpy.inf)
        gold = pool.table.gold[mine]

        def loss(weights: Array, told: Array = told / scale, missing: Array = missing, gold: Array = gold) -> float:
            likely = log_softmax(told @ weights + missing, axis=1)[numpy.arange(len(gold)), gold]
            return float(-likely.mean() + 1e-3 * (weights**2).sum())

        weights = minimize(loss, numpy.zeros(4)).x
        absent = numpy.where(numpy.isfinite(held.table.scores[theirs][:, 0]), 0.0, -numpy.inf)
        right[theirs] = (asked / scale @ weights + absent).argmax(1) == held.table.gold[theirs]
    return right


def run_metrics(options: MetricOptions) -> None:
    """Print the table."""
    pool, held = (Scored.of(options.sums / part, options.menu / part) for part in ("pool", "held"))
    rewards = {
        name: (held.by(metric).argmax(-1) == held.table.gold[:, None]).astype(float) for name, metric in METRICS.items()
    }
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("chain", "layers", *rewards):
        grid.add_column(heading, justify="left" if heading == "chain" else "right", no_wrap=True)
    grid.add_row("base", f"{held.table.depths[0]:.0f}", *(f"{right[:, 0].mean():.1%}" for right in rewards.values()))
    for place, chain in enumerate(held.table.chains[1:], 1):
        differences = [
            points(paired_difference(list(right[:, place]), list(right[:, 0]), options.seed))
            for right in rewards.values()
        ]
        grid.add_row(str(chain), str(chain.depth), *differences)
    PlainConsole(width=200).print(grid)
    fitted = corrected(pool, held)
    over = paired_difference(list(fitted), list(rewards["auto"][:, 0]), options.seed)
    console.print(
        f"{len(fitted)} held-out questions, points above base under the same metric. Base with a correction by length "
        f"fitted for each task on {len(pool.table)} training questions: {fitted.mean():.1%}, {points(over)} to base "
        "under auto"
    )


if __name__ == "__main__":
    Command(MetricOptions, run_metrics, "Base and the chains of a menu under each metric.")(
        "benchmarks.studies.metrics"
    )
