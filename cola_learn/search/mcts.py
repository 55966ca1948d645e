"""Monte Carlo tree search over chains of one sample, after CoLa (arXiv 2507.07996) and PoLar (arXiv 2606.06574)."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cola_learn.chains import Chain, SearchSpace
from cola_learn.search.method import Prior, Search, SearchMethod, at_least_one
from cola_learn.search.moves import Children, Growth


@dataclass(frozen=True)
class MCTS(SearchMethod):
    """Monte Carlo tree search; with space.edits nested as CoLa does it, with disjoint as PoLar does.

    Attributes:
        simulations: budget per question, base chain included.
        exploration: c of the UCB rule Q/v + c*sqrt(ln V / v) - depth_penalty*depth/N.
        depth_penalty: lambda of the UCB rule; higher looks for shorter chains.
        random_child: probability of descending to a random child (epsilon-greedy).
        widening: a node may have widening * visits**widening_power children, so that the tree grows deep
            before every single edit has been tried.
        widening_power: see widening.
        prior: prior over edits for PUCT, c*P(edit)*sqrt(V)/(1 + v): a label store, best one made by Scan, from which P
            is the softmax of each edit's mean gain.
        prior_temperature: temperature of that softmax, in nats.
    """

    simulations: int = 50
    exploration: float = math.sqrt(2)
    depth_penalty: float = 5.0
    random_child: float = 0.1
    widening: float = 2.0
    widening_power: float = 0.5
    prior: Path | None = None
    prior_temperature: float = 0.25

    def __post_init__(self) -> None:
        at_least_one(simulations=self.simulations)
        if not 0 <= self.random_child <= 1:
            raise ValueError(f"search.random_child is {self.random_child}; give a probability from 0 to 1")
        if self.prior_temperature <= 0:
            raise ValueError(f"search.prior_temperature is {self.prior_temperature}; give more than 0")

    def start(
        self,
        num_layers: int,
        space: SearchSpace,
        seed: str,
        prior: Prior | None = None,
        twin: Search | None = None,
    ) -> Search:
        return TreeSearch(num_layers, space, self, seed, prior, twin if isinstance(twin, TreeSearch) else None)


class TreeSearch:
    """One sample's tree. Chains reached by different edits are one node; no chain is asked for twice.

    Args:
        num_layers: N of the backbone.
        space: which edits may follow a chain.
        settings: budget and selection rule.
        seed: everything random in the search follows from it.
        prior: weight of every edit; selection is then PUCT's.
        twin: a tree made with the same arguments, to share what chains grow into.
    """

    def __init__(
        self,
        num_layers: int,
        space: SearchSpace,
        settings: MCTS,
        seed: str,
        prior: Prior | None = None,
        twin: "TreeSearch | None" = None,
    ) -> None:
        self.simulations = 0
        self._settings = settings
        self._nested = space.edits == "nested"
        self._guided = bool(prior)
        self._random = random.Random(seed)
        stream = self._random.getrandbits(64)
        self._growth: Growth = twin._growth if twin else Growth(space, stream, prior)
        base = Chain.base(num_layers)
        self._root = _Node(base, 0, 0.0)
        self._nodes: dict[Chain, _Node] = {base: self._root}
        self._path: list[_Node] = []

    def ask(self) -> Chain | None:
        """The next chain to evaluate, or None when the budget is spent.

        Simulations that end in a chain already evaluated count and are settled here.
        """
        while self.simulations < self._settings.simulations:
            self._path = self._select()
            leaf = self._path[-1]
            if leaf.reward is None:
                return leaf.chain
            self._back_propagate(leaf.reward)
        return None

    def tell(self, chain: Chain, reward: float, margin: float) -> None:
        """The reward of the chain last asked for; the margin is not used."""
        self._path[-1].reward = reward
        self._back_propagate(reward)

    def visits(self, chain: Chain) -> int:
        """Simulations that went through the chain."""
        return self._nodes[chain].visits

    def links(self) -> Iterator[tuple[Chain, Chain]]:
        """Every parent and child in the tree."""
        for node in self._nodes.values():
            for child in node.children:
                yield node.chain, child.chain

    def _back_propagate(self, reward: float) -> None:
        self.simulations += 1
        for node in self._path:
            node.visits += 1
            node.value += reward
            node.mean = node.value / node.visits - node.penalty
            node.spread = 1 / (1 + node.visits) if self._guided else 1 / math.sqrt(node.visits)

    def _select(self) -> list["_Node"]:
        settings = self._settings
        node = self._root
        path = [node]
        while node.visits:
            child = None
            if len(node.children) < settings.widening * node.visits**settings.widening_power:
                child = self._expand(node, path)
            if child is None:
                child = self._descend(node, path)
            if child is None:
                break
            path.append(child)
            node = child
        return path

    def _expand(self, node: "_Node", path: list["_Node"]) -> "_Node | None":
        """A child not tried before.

        Nested edits can lead back to a chain on the path; such a child would only turn in a circle.
        """
        growth = node.growth
        if growth is None:
            growth = node.growth = self._growth.of(node.chain, node.used)
            node.children, node.chances = [], []
        while (found := growth.at(node.seen)) is not None:
            node.seen += 1
            chain, used, chance = found
            child = self._nodes.get(chain)
            if child is None:
                penalty = self._settings.depth_penalty * chain.depth / chain.num_layers
                child = self._nodes[chain] = _Node(chain, used, penalty)
            elif child in node.children or (self._nested and child in path):
                continue
            node.children.append(child)
            node.chances.append(chance)
            return child
        return None

    def _descend(self, node: "_Node", path: list["_Node"]) -> "_Node | None":
        children: Sequence[_Node] = node.children
        if self._nested:
            children = [child for child in children if child not in path]
        if not children:
            return None
        if self._random.random() < self._settings.random_child:
            return self._random.choice(children)
        if self._guided:
            scale = self._settings.exploration * math.sqrt(node.visits)
            chance = dict(zip(node.children, node.chances, strict=True))
            return max(children, key=lambda child: child.mean + scale * chance[child] * child.spread)
        scale = self._settings.exploration * math.sqrt(math.log(node.visits))
        scores = [child.mean + scale * child.spread for child in children]
        return children[scores.index(max(scores))]


_NONE: list[Any] = []


class _Node:
    """A chain in the tree; ``mean`` has its depth penalty in it, ``used`` the layers of its edits as bits."""

    __slots__ = (
        "chain",
        "chances",
        "children",
        "growth",
        "mean",
        "penalty",
        "reward",
        "seen",
        "spread",
        "used",
        "value",
        "visits",
    )

    def __init__(self, chain: Chain, used: int, penalty: float) -> None:
        self.chain = chain
        self.used = used
        self.penalty = penalty
        self.visits = 0
        self.value = 0.0
        self.mean = self.spread = math.inf  # before its first visit a child comes before all others
        self.reward: float | None = None
        self.children: list[_Node] = _NONE  # most nodes stay leaves; they share one empty list
        self.chances: list[float] = _NONE
        self.growth: Children | None = None
        self.seen = 0  # of the growth
