"""Policies that run several chains of one question and see no gold answer: vote and cascade."""

from collections.abc import Sequence

import numpy

from cola_learn.chains import Chain
from cola_learn.label.score_matrix import Array, ScoreMatrix


def shared_layers(chains: Sequence[Chain]) -> int:
    """Layers run when chains share their beginnings: the nodes of their trie."""
    return len({chain.layers[:length] for chain in chains for length in range(1, chain.depth + 1)})


def choose_voters(table: ScoreMatrix, count: int, most_layers: float = float("inf")) -> list[int]:
    """Chains whose averaged option probabilities give the gold option most, found one after another on training
    questions; together they run at most so many layers. The first is the best single one."""
    chosen: list[int] = []
    for _ in range(count):
        worth = {}
        for chain in range(len(table.chains)):
            together = [*chosen, chain]
            if chain not in chosen and shared_layers([table.chains[one] for one in together]) <= most_layers:
                averaged = table.probabilities[:, together].mean(1)
                worth[chain] = float(averaged[numpy.arange(len(table)), table.gold].mean())
        if not worth:
            break
        chosen.append(max(worth, key=worth.__getitem__))
    return chosen


def vote(table: ScoreMatrix, voters: Sequence[int]) -> tuple[Array, Array]:
    """Rewards and layers run ``[Q]``, of the option with the highest probability on average over the voters."""
    answers = table.probabilities[:, list(voters)].mean(1).argmax(1)
    layers = shared_layers([table.chains[voter] for voter in voters])
    return (answers == table.gold).astype(float), numpy.full(len(table), float(layers))


def lead(table: ScoreMatrix, chain: int) -> Array:
    """How sure a chain is of each question, gold unseen, ``[Q]``."""
    return lead_of(table.probabilities[:, chain])


def lead_of(probabilities: Array) -> Array:
    """Probability of the best option less that of the second best: ``[..., O]`` to ``[...]``."""
    ordered = numpy.sort(probabilities, axis=-1)
    found: Array = ordered[..., -1] - ordered[..., -2]
    return found


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
