"""What every search has in common: a budget, and ``ask`` and ``tell``."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from cola_learn.chains import Chain, Edit

Method = Literal["mcts", "random", "beam", "greedy", "scan", "menu"]
Prior = Mapping[Edit, float]


@dataclass(frozen=True)
class SearchSettings:
    """How chains are searched for; the defaults of the tree search follow CoLa.

    Attributes:
        method: mcts (tree search, as CoLa with space.edits nested, as PoLar with disjoint), random (chains of 1 to 4
            random edits), beam (the best few chains, some random edits of each, again and again), greedy (a beam of
            one), scan (every single edit of the space once, in order), menu (every chain of a file once, in order).
        simulations: budget of one search, the base chain included; scan and menu run their whole list instead.
        menu: file of chains for method menu, one a line; python -m cola_learn.label menu makes one.
        patience: stop a search whose Pareto set (reward against depth) has not changed for so many simulations.
        exploration: c of the UCB rule Q/v + c*sqrt(ln V / v) - depth_penalty*depth/N.
        depth_penalty: lambda of the UCB rule; higher looks for shorter chains.
        random_child: probability of descending to a random child instead of the best.
        widening: a node may have widening * visits**widening_power children, so that the tree grows deep
            before every single edit has been tried.
        widening_power: see widening.
        prior: guides mcts: likely edits are tried first, and exploration is c*P(edit)*sqrt(V)/(1 + v), as in PUCT. A
            label store, best one of method scan, for P by mean gain in margin of each edit; or a file that
            python -m cola_learn.train prior wrote with a controller.
        prior_temperature: P is softmax(mean gain in nats / temperature).
        beam_width: chains that beam keeps.
        beam_branch: edits that beam and greedy try in one step, over all chains kept.
    """

    method: Method = "mcts"
    simulations: int = 50
    menu: Path | None = None
    patience: int | None = None
    exploration: float = math.sqrt(2)
    depth_penalty: float = 5.0
    random_child: float = 0.1
    widening: float = 2.0
    widening_power: float = 0.5
    prior: Path | None = None
    prior_temperature: float = 0.25
    beam_width: int = 4
    beam_branch: int = 16

    def __post_init__(self) -> None:
        for name in ("simulations", "patience", "beam_width", "beam_branch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"search.{name} is {value}; give at least 1")
        if not 0 <= self.random_child <= 1:
            raise ValueError(f"search.random_child is {self.random_child}; give a probability from 0 to 1")
        if self.prior_temperature <= 0:
            raise ValueError(f"search.prior_temperature is {self.prior_temperature}; give more than 0")
        if (self.menu is None) == (self.method == "menu"):
            raise ValueError(
                f"search.menu is {self.menu} with search.method {self.method}; menu needs one, others none"
            )
        if self.prior and self.method != "mcts":
            raise ValueError(f"search.prior guides search.method mcts, not {self.method}; leave one of them out")


class Search(Protocol):
    """One sample's search. It proposes chains, is told what they are worth, and never knows what evaluates them."""

    simulations: int
    """Simulations settled so far."""

    def ask(self) -> Chain | None:
        """The next chain to evaluate, never one told before; None when the budget or the space is spent.

        Every chain asked for must be told before the next ask.
        """

    def tell(self, chain: Chain, reward: float, margin: float) -> None:
        """The reward, and the margin in nats, of the chain last asked for."""

    def visits(self, chain: Chain) -> int:
        """How often the search has come through a chain that it was told about."""

    def links(self) -> Iterable[tuple[Chain, Chain]]:
        """Pairs of chains that one edit of the space leads between, as far as the search went that way."""
