"""Hidden states after prefixes of chains, kept so that chains sharing a prefix pay for it once."""

from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(eq=False)
class Node:
    """A prefix of chains of one row; ``hidden`` is ``[T, H]`` while it is kept."""

    parent: "Node | None" = None
    layer: int = -1
    hidden: Tensor | None = None
    children: dict[int, "Node"] = field(default_factory=dict)


class ActivationTrie:
    """One trie a row, all under one byte budget; the least recently used hidden states go first.

    Results never depend on the budget: what is missing is computed again.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._roots: dict[int, Node] = {}
        self._recent: OrderedDict[Node, None] = OrderedDict()

    def deepest(self, row: int, layers: tuple[int, ...]) -> tuple[Tensor | None, int]:
        """The kept hidden state after the longest prefix of ``layers``, and that prefix's length."""
        node = self._roots.get(row)
        best: Node | None = None
        length = 0
        for depth, layer in enumerate(layers, start=1):
            node = node.children.get(layer) if node else None
            if node is None:
                break
            if node.hidden is not None:
                best, length = node, depth
        if best is None:
            return None, 0
        self._recent.move_to_end(best)
        return best.hidden, length

    def put(self, row: int, layers: tuple[int, ...], hidden: Tensor) -> None:
        """Keep a copy of the hidden state ``[T, H]`` after the prefix ``layers``."""
        size = hidden.numel() * hidden.element_size()
        if size > self.budget_bytes:
            return
        node = self._roots.setdefault(row, Node())
        for layer in layers:
            node = node.children.setdefault(layer, Node(node, layer))
        if node.hidden is None:
            node.hidden = hidden.clone()  # a view would keep its whole batch alive
            self.used_bytes += size
        self._recent[node] = None
        self._recent.move_to_end(node)
        while self.used_bytes > self.budget_bytes:
            self._drop(next(iter(self._recent)))

    def forget(self, row: int) -> None:
        """Drop everything of one row."""
        stack = [self._roots.pop(row, Node())]
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            if node.hidden is not None:
                self._drop(node)

    def _drop(self, node: Node) -> None:
        assert node.hidden is not None
        self.used_bytes -= node.hidden.numel() * node.hidden.element_size()
        node.hidden = None
        del self._recent[node]
        while node.parent is not None and node.hidden is None and not node.children:
            node.parent.children.pop(node.layer, None)
            node = node.parent
