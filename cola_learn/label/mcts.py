"""Monte Carlo tree search over chains of one sample, after CoLa (arXiv 2507.07996) and PoLar (arXiv 2606.06574)."""

import math
import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any
from zlib import crc32

from cola_learn.chains import Chain, Edit, SearchSpace
from cola_learn.label.moves import Move, Moves, moves_of
from cola_learn.label.search import Prior, SearchSettings


class TreeSearch:
    """One sample's tree. Chains reached by different edits are one node; no chain is asked for twice.

    Each node draws its edits from a stream of its own, which depends on the seed and the chain alone: two searches of
    one seed whose rewards differ (for the gold option and for a wrong one) try much the same chains.

    Args:
        num_layers: N of the backbone.
        space: which edits may follow a chain.
        settings: budget and selection rule.
        seed: everything random in the search follows from it.
        prior: weight of every edit; selection is then PUCT's.
    """

    def __init__(
        self,
        num_layers: int,
        space: SearchSpace,
        settings: SearchSettings,
        seed: int | str,
        prior: Prior | None = None,
    ) -> None:
        self.simulations = 0
        self._settings = settings
        self._space = space
        self._nested = space.edits == "nested"
        self._prior = _Prior(prior) if prior else None
        self._random = random.Random(seed)
        self._stream = self._random.getrandbits(64)
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
            node.spread = 1 / math.sqrt(node.visits) if self._prior is None else 1 / (1 + node.visits)

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
        if node.children is _NONE:
            node.grow(self._stream)
        while (move := self._draw(node)) is not None:
            chain = move.apply(node.chain, self._nested)
            child = self._nodes.get(chain)
            if child is None:
                penalty = self._settings.depth_penalty * chain.depth / chain.num_layers
                child = _Node(chain, node.used | move.mask, penalty)
                self._nodes[chain] = child
            if child not in node.children and not (self._nested and child in path):
                node.children.append(child)
                if self._prior:
                    node.chances.append(self._prior.chance(move.edit))
                return child
        return None

    def _draw(self, node: "_Node") -> Move | None:
        """An edit of the node's chain that it has not drawn yet: a few tries first, then a list of all that is left."""
        moves = moves_of(self._space, node.chain.depth, node.chain.num_layers)
        if node.rest is None:
            for _ in range(8 if moves.all else 0):
                if self._prior:
                    number = self._prior.draw(moves, node.chance())
                else:
                    number = moves.pick(node.chance(), node.chance())
                if self._may(node, moves.all[number], number):
                    node.drawn.add(number)
                    return moves.all[number]
            left = [number for number, move in enumerate(moves.all) if self._may(node, move, number)]
            keys = {number: self._key(node, moves.all[number]) for number in left}
            node.rest = sorted(left, key=keys.__getitem__)
        if not node.rest:
            return None
        number = node.rest.pop()
        node.drawn.add(number)
        return moves.all[number]

    def _key(self, node: "_Node", move: Move) -> float:
        """Sorting by these keys draws without replacement, by weight where there is a prior."""
        return node.chance() if self._prior is None else math.log(1 - node.chance()) / self._prior.chance(move.edit)

    def _may(self, node: "_Node", move: Move, number: int) -> bool:
        return number not in node.drawn and move.may_follow(node.chain, node.used, self._nested)

    def _descend(self, node: "_Node", path: list["_Node"]) -> "_Node | None":
        children: Sequence[_Node] = node.children
        if self._nested:
            children = [child for child in children if child not in path]
        if not children:
            return None
        if self._random.random() < self._settings.random_child:
            return self._random.choice(children)
        if self._prior:
            scale = self._settings.exploration * math.sqrt(node.visits)
            chance = dict(zip(node.children, node.chances, strict=True))
            return max(children, key=lambda child: child.mean + scale * chance[child] * child.spread)
        scale = self._settings.exploration * math.sqrt(math.log(node.visits))
        scores = [child.mean + scale * child.spread for child in children]
        return children[scores.index(max(scores))]


_NONE: list[Any] = []
_NOTHING: set[int] = set()


class _Node:
    """A chain in the tree; ``mean`` has its depth penalty in it, ``used`` the layers of its edits as bits."""

    __slots__ = (
        "chain",
        "chances",
        "children",
        "drawn",
        "mean",
        "penalty",
        "rest",
        "reward",
        "spread",
        "state",
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
        self.drawn: set[int] = _NOTHING
        self.rest: list[int] | None = None

    def grow(self, stream: int) -> None:
        """Make ready for the first child; the edits it draws depend on the tree's stream and the chain alone."""
        self.children, self.chances, self.drawn = [], [], set()
        self.state = stream ^ (crc32(b"%d " * self.chain.depth % self.chain.layers) * 0x9E3779B97F4A7C15)

    def chance(self) -> float:
        """The next number of this node's stream, uniform in [0, 1): Knuth's linear congruence, upper bits."""
        self.state = state = (self.state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (state >> 11) / (1 << 53)


class _Prior:
    """Chances of edits; those without a weight have the least that any has."""

    def __init__(self, weights: Prior) -> None:
        total = sum(weights.values())
        self._chances = {edit: weight / total for edit, weight in weights.items()}
        self._least = min(self._chances.values())
        self._tables: dict[int, list[float]] = {}

    def chance(self, edit: Edit) -> float:
        return self._chances.get(edit, self._least)

    def draw(self, moves: Moves, chance: float) -> int:
        """The number of a move, drawn by weight."""
        table = self._tables.get(len(moves.all))
        if table is None:
            table = list(accumulate(self.chance(move.edit) for move in moves.all))
            self._tables[len(moves.all)] = table
        return min(bisect(table, chance * table[-1]), len(table) - 1)
