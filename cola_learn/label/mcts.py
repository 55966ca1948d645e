"""Monte Carlo tree search over chains of one sample, after CoLa (arXiv 2507.07996).

A search is ``ask`` and ``tell``: it proposes a chain, is told the reward, and never knows what evaluates it.
"""

import math
import random
from dataclasses import dataclass, field

from cola_learn.chains import Chain, Edit, SearchSpace, Skip


@dataclass(frozen=True)
class SearchSettings:
    """How a tree is searched; the defaults follow CoLa.

    Attributes:
        simulations: selections and back-propagations in all, the base chain's being the first.
        exploration: c of the UCB rule Q/v + c*sqrt(ln V / v) - depth_penalty*depth/N.
        depth_penalty: lambda of the UCB rule; higher looks for shorter chains.
        random_child: probability of descending to a random child instead of the best.
        widening: a node may have widening * visits**widening_power children, so that the tree grows deep
            before every single edit has been tried.
        widening_power: see widening.
    """

    simulations: int = 200
    exploration: float = math.sqrt(2)
    depth_penalty: float = 5.0
    random_child: float = 0.1
    widening: float = 2.0
    widening_power: float = 0.5

    def __post_init__(self) -> None:
        if self.simulations < 1:
            raise ValueError(f"search.simulations is {self.simulations}; give at least 1")
        if not 0 <= self.random_child <= 1:
            raise ValueError(f"search.random_child is {self.random_child}; give a probability from 0 to 1")


@dataclass(eq=False)
class _Node:
    chain: Chain
    visits: int = 0
    value: float = 0.0
    children: dict[Chain, "_Node"] = field(default_factory=dict)
    untried: tuple[list[Edit], list[Edit]] | None = None  # shuffled skips and repeats, enumerated when needed


class ChainSearch:
    """One sample's tree. Chains reached by different edits are one node; no chain is asked for twice.

    Args:
        num_layers: N of the backbone.
        space: which edits may follow a chain.
        settings: budget and selection rule.
        seed: everything random in the search follows from it.
    """

    def __init__(self, num_layers: int, space: SearchSpace, settings: SearchSettings, seed: int | str) -> None:
        self.settings = settings
        self.space = space
        self.simulations = 0
        self._random = random.Random(seed)
        self._root = _Node(Chain.base(num_layers))
        self._nodes: dict[Chain, _Node] = {self._root.chain: self._root}
        self._values: dict[Chain, float] = {}
        self._path: list[_Node] = []

    def ask(self) -> Chain | None:
        """The next chain to evaluate, or None when the budget is spent.

        Simulations that end in a chain already evaluated count and are settled here. Every chain asked for
        must be told before the next ask.
        """
        while self.simulations < self.settings.simulations:
            self._path = self._select()
            chain = self._path[-1].chain
            if chain not in self._values:
                return chain
            self._back_propagate(self._values[chain])
        return None

    def tell(self, chain: Chain, value: float) -> None:
        """The value, usually the reward, of the chain last asked for."""
        self._values[chain] = value
        self._back_propagate(value)

    @property
    def visits(self) -> dict[Chain, int]:
        """Visits of every chain evaluated so far, in the order of evaluation."""
        return {chain: self._nodes[chain].visits for chain in self._values}

    def _back_propagate(self, value: float) -> None:
        self.simulations += 1
        for node in self._path:
            node.visits += 1
            node.value += value

    def _select(self) -> list[_Node]:
        node = self._root
        path = [node]
        while node.visits:
            child = self._expand(node, path) or self._descend(node, path)
            if child is None:
                break
            path.append(child)
            node = child
        return path

    def _expand(self, node: _Node, path: list[_Node]) -> _Node | None:
        """A child not tried before, if progressive widening admits one more.

        Nested edits can lead back to a chain on the path; such a child would only turn in a circle.
        """
        settings = self.settings
        if len(node.children) >= settings.widening * node.visits**settings.widening_power:
            return None
        if node.untried is None:
            edits = self.space.legal_edits(node.chain)
            self._random.shuffle(edits)
            skipping: list[Edit] = [edit for edit in edits if isinstance(edit, Skip)]
            node.untried = (skipping, [edit for edit in edits if not isinstance(edit, Skip)])
        skips, repeats = node.untried
        while skips or repeats:
            # A fair coin between the operations: there are several times as many repeats as skips.
            pool = skips if skips and (not repeats or self._random.random() < 0.5) else repeats
            chain = self.space.apply(node.chain, pool.pop())
            child = self._nodes.setdefault(chain, _Node(chain))
            if chain not in node.children and child not in path:
                node.children[chain] = child
                return child
        return None

    def _descend(self, node: _Node, path: list[_Node]) -> _Node | None:
        children = [child for child in node.children.values() if child not in path]
        if not children:
            return None
        if self._random.random() < self.settings.random_child:
            return self._random.choice(children)
        return max(children, key=lambda child: self._score(child, node.visits))

    def _score(self, node: _Node, parent_visits: int) -> float:
        penalty = self.settings.depth_penalty * node.chain.depth / node.chain.num_layers
        if not node.visits:
            return math.inf
        explore = self.settings.exploration * math.sqrt(math.log(max(parent_visits, 1)) / node.visits)
        return node.value / node.visits + explore - penalty
