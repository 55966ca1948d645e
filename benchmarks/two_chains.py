"""Two chains a question, from stored scores: a short one, and where its lead is small a second one.

    python -m benchmarks.two_chains

No model runs. Layers that both chains begin with run once. The pair, the least lead that is enough and whether the
second chain answers alone or both vote are chosen on labelled questions, for each mean depth.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy

from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.evaluate.markdown import p_text, table
from cola_learn.evaluate.multichain import cascade, cascade_limit, lead
from cola_learn.evaluate.static_front import HeldFront, StaticFront
from cola_learn.intervals import p_value, paired_difference, points
from cola_learn.label.score_matrix import Array, ScoreMatrix, open_stores


@dataclass(frozen=True)
class TwoChainOptions:
    """Options of the table.

    Attributes:
        menu: folder with ``pool`` and ``held``, of ``label cross``.
        depths: mean depths, as shares of the base chain's.
        seed: of the bootstrap.
    """

    menu: Path = Path("data/menu")
    depths: list[float] = field(default_factory=lambda: [0.8, 0.85, 0.9, 0.95, 1.0])
    seed: int = 0


@dataclass(frozen=True)
class TwoChains:
    """Runs chain ``first``; where its lead is below ``limit`` chain ``second`` too, and both vote or that answers."""

    first: int
    second: int
    limit: float
    vote: bool

    def on(self, scores: ScoreMatrix) -> tuple[Array, Array]:
        """Rewards and layers run, ``[Q]`` each."""
        rewards, layers = cascade(scores, [self.first, self.second], self.limit)
        if not self.vote:
            sure = lead(scores, self.first) >= self.limit
            rewards = numpy.where(sure, rewards, scores.rewards[:, self.second])
        return rewards, layers

    def described(self, chains: tuple[Chain, ...]) -> str:
        return f"`{chains[self.first]}`, then `{chains[self.second]}`" + (", both vote" if self.vote else "")


def best_pair(labelled: ScoreMatrix, layers: float) -> TwoChains:
    """The pair that answers most labelled questions rightly with so many layers on average."""
    found: list[tuple[float, TwoChains]] = []
    for first, second in itertools.permutations(range(len(labelled.chains)), 2):
        if labelled.depths[first] > layers:
            continue
        limit = cascade_limit(labelled, [first, second], layers)
        for vote in (True, False):
            pair = TwoChains(first, second, limit, vote)
            rewards, run = pair.on(labelled)
            if run.mean() <= layers + 1e-6:
                found.append((float(rewards.mean()), pair))
    return max(found, key=lambda one: one[0])[1]


def run_two_chains(options: TwoChainOptions) -> None:
    """Print a Markdown table."""
    labelled = ScoreMatrix.load(open_stores(options.menu / "pool"))
    held = ScoreMatrix.load(open_stores(options.menu / "held"), "--menu", labelled.temperatures)
    front = HeldFront(StaticFront.of(labelled.depths, labelled.soft.mean(0)), held.chains, held.rewards)
    lines = []
    for share in options.depths:
        pair = best_pair(labelled, share * labelled.depths[0])
        rewards, layers = pair.on(held)
        static = front.at(float(layers.mean()))
        assert static is not None
        lines.append(
            [
                f"{share:.0%}",
                pair.described(held.chains),
                f"{layers.mean():.1f}",
                f"{rewards.mean():.1%}",
                points(paired_difference(list(rewards), list(held.rewards[:, 0]), options.seed)),
                points(paired_difference(list(rewards), list(static.rewards), options.seed)),
                p_text(p_value(rewards, static.rewards)),
            ]
        )
    print(f"{len(held)} held-out questions, chosen on {len(labelled)} labelled ones\n")
    headings = ("set to", "chains", "layers", "accuracy", "Δ base (95% CI)", "Δ static front (95% CI)", "p")
    print("\n".join(table(headings, lines)))


if __name__ == "__main__":
    Command(TwoChainOptions, run_two_chains, "Two chains a question against one.")("benchmarks.two_chains")
