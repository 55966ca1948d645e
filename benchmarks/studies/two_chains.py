"""Two chains a question, from stored scores: a short one, and where its lead is small a second one.

    python -m benchmarks.studies.two_chains

No model runs. Layers that both chains begin with run once. The pair, the least lead that is enough and whether the
second chain answers alone or both vote are chosen on labelled questions, for each mean depth.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy

from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.evaluate.breakdown import leads
from cola_learn.evaluate.static_front import HeldFront, StaticFront
from cola_learn.evaluate.tables import p_text, table
from cola_learn.label.score_matrix import Array, ScoreMatrix, open_stores
from cola_learn.stats import p_value, paired_difference, points


@dataclass(frozen=True)
class TwoChainOptions:
    """Options of the table.

    Attributes:
        menu: folder with ``pool`` and ``held``, of a menu's stores.
        depths: mean depths, as shares of the base chain's.
        seed: of the bootstrap.
    """

    menu: Path = Path("data/menu")
    depths: list[float] = field(default_factory=lambda: [0.8, 0.85, 0.9, 0.95, 1.0])
    seed: int = 0


def shared_layers(chains: Sequence[Chain]) -> int:
    """Layers run when chains share their beginnings: the nodes of their trie."""
    return len({chain.layers[:length] for chain in chains for length in range(1, chain.depth + 1)})


def vote(table: ScoreMatrix, voters: Sequence[int]) -> tuple[Array, Array]:
    """Rewards and layers run ``[Q]``, of the option with the highest probability on average over the voters."""
    answers = table.probabilities[:, list(voters)].mean(1).argmax(1)
    layers = shared_layers([table.chains[voter] for voter in voters])
    return (answers == table.gold).astype(float), numpy.full(len(table), float(layers))


def lead(table: ScoreMatrix, chain: int) -> Array:
    """How sure a chain is of each question, gold unseen, ``[Q]``."""
    return leads(table.probabilities[:, chain])


def cascade(table: ScoreMatrix, order: Sequence[int], limit: float) -> tuple[Array, Array]:
    """Run the first chain; where its lead is below the limit run the others too and let all of them vote.

    Returns:
        Rewards and layers run, ``[Q]`` each.
    """
    sure = lead(table, order[0]) >= limit
    first = table.rewards[:, order[0]]
    voted, layers = vote(table, order)
    return numpy.where(sure, first, voted), numpy.where(sure, table.depths[order[0]], layers)


def cascade_limit(table: ScoreMatrix, order: Sequence[int], mean_layers: float) -> float:
    """The limit at which a cascade runs this many layers on average on training questions."""
    more = shared_layers([table.chains[one] for one in order]) - table.depths[order[0]]
    share = min(1.0, max(0.0, (mean_layers - table.depths[order[0]]) / more)) if more > 0 else 0.0
    return float(numpy.quantile(lead(table, order[0]), share))


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
    Command(TwoChainOptions, run_two_chains, "Two chains a question against one.")("benchmarks.studies.two_chains")
