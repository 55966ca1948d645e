"""Memory: the prefix cache (hidden states after prefixes of chains, under a byte budget) and the size of calls."""

import heapq
import itertools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from torch import Tensor

from cola_learn.console import console
from cola_learn.errors import UserError

_LEAST = 64  # tokens: memory that does not hold so few does not hold the model
Result = TypeVar("Result")
_SHARE_OF_FREE = {"cpu": 0.25, "cuda": 0.5}
_CGROUP = Path("/sys/fs/cgroup")


def default_budget(device: torch.device) -> int:
    """A share of the memory that is free on ``device`` now, in bytes: half of a GPU's, a quarter of the host's."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = min(psutil.virtual_memory().available, _free_in_container())
    return int(free * _SHARE_OF_FREE.get(device.type, 0.25))


def _free_in_container() -> float:
    try:
        limit, used = ((_CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        return float("inf") if limit.strip() == "max" else max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return float("inf")


@dataclass(eq=False)
class Node:
    """A prefix of chains of one row.

    Attributes:
        parent: the prefix without its last layer; None for the empty prefix, whose state is always at hand.
        layer: the last layer.
        row: whose prefix it is; only known to the empty prefix.
        state: tensors after the prefix while they are kept, else empty.
        children: longer prefixes by their next layer.
        touched: the trie's clock when the state was last put or used.
        order: counts touches; of equals the one touched first goes first.
    """

    parent: "Node | None" = None
    layer: int = -1
    row: Hashable = None
    state: tuple[Tensor, ...] = ()
    children: dict[int, "Node"] = field(default_factory=dict)
    touched: int = 0
    order: int = 0

    @property
    def worth(self) -> int:
        """The gap to the state before, in layers, squared: so many layers would run again for a chain that needs
        this state, and as many prefixes have no other to start from.
        """
        gap, node = 1, self.parent
        while node is not None and node.parent is not None and not node.state:
            gap, node = gap + 1, node.parent
        return gap * gap


class ActivationTrie:
    """One trie a row, all under one byte budget.

    What goes first is what is cheap to compute again and has not been used for long (GreedyDual, Young 1994): a
    state's priority is its worth above the priority of the last evicted one when it was last used. So a long chain
    thins out before it is forgotten. Results never depend on the budget.

    Attributes:
        budget_bytes: most bytes of kept states; 0 keeps nothing.
        used_bytes, peak_bytes: bytes kept now, and most so far.
        lookups, hits: prefixes looked for, and those for which some state was found.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self.lookups = 0
        self.hits = 0
        self._roots: dict[Hashable, Node] = {}
        self._clock = 0
        self._orders = itertools.count()
        self._queue: list[tuple[int, int, Node]] = []  # (priority, order) when queued; looked at again when popped

    def deepest(self, row: Hashable, layers: tuple[int, ...]) -> tuple[tuple[Tensor, ...], int]:
        """The state after the longest kept prefix of ``layers`` and that prefix's length; ``(), 0`` without one."""
        best: Node | None = None
        length = 0
        for depth, node in enumerate(self._walk(row, layers), start=1):
            if node.state:
                best, length = node, depth
        self.lookups += 1
        if best is None:
            return (), 0
        self.hits += 1
        self._touch(best)
        return best.state, length

    def path(self, row: Hashable, layers: tuple[int, ...]) -> list[tuple[Tensor, ...]]:
        """The states after 1, 2, ... layers, as far as none is missing."""
        nodes = list(itertools.takewhile(lambda node: node.state, self._walk(row, layers)))
        self.lookups += 1
        self.hits += bool(nodes)
        for node in reversed(nodes):  # so that the far end goes first
            self._touch(node)
        return [node.state for node in nodes]

    def put(self, row: Hashable, layers: tuple[int, ...], state: tuple[Tensor, ...]) -> None:
        """Keep the state after the prefix ``layers``; the tensors are kept as they are, so hand in no views."""
        size = _bytes(state)
        if size > self.budget_bytes or not layers:
            return
        node = self._roots.setdefault(row, Node(row=row))
        for layer in layers:
            node = node.children.setdefault(layer, Node(node, layer))
        self._touch(node)
        if not node.state:
            node.state = state
            self.used_bytes += size
            heapq.heappush(self._queue, (node.touched + node.worth, node.order, node))
        self.shrink(self.budget_bytes)
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)

    def shrink(self, budget_bytes: int) -> None:
        """Keep no more than this from now on."""
        self.budget_bytes = budget_bytes
        while self.used_bytes > budget_bytes:
            self._evict()

    def forget(self, row: Hashable) -> None:
        """Drop everything of one row."""
        stack = [self._roots.pop(row, Node())]
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            self.used_bytes -= _bytes(node.state)
            node.state = ()
        if len(self._queue) > 2 * sum(bool(node.state) for _, _, node in self._queue):
            self._queue = [entry for entry in self._queue if entry[2].state]
            heapq.heapify(self._queue)

    def _walk(self, row: Hashable, layers: tuple[int, ...]) -> Iterator[Node]:
        node = self._roots.get(row)
        for layer in layers:
            node = node.children.get(layer) if node else None
            if node is None:
                return
            yield node

    def _touch(self, node: Node) -> None:
        node.touched, node.order = self._clock, next(self._orders)

    def _evict(self) -> None:
        """Drop the state with the lowest priority; priorities only rise, so a queued one is a lower bound."""
        while True:
            priority, order, node = heapq.heappop(self._queue)
            if not node.state:
                continue
            now = node.touched + node.worth
            if (now, node.order) == (priority, order):
                break
            heapq.heappush(self._queue, (now, node.order, node))
        self._clock = priority
        self.used_bytes -= _bytes(node.state)
        node.state = ()
        while node.parent is not None and not node.state and not node.children:
            node.parent.children.pop(node.layer, None)
            node = node.parent
        if node.parent is None and not node.children:
            self._roots.pop(node.row, None)


def _bytes(state: tuple[Tensor, ...]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state)


class Room:
    """The size of calls, halved whenever memory runs out, and with it what is kept between calls.

    Args:
        tokens: most tokens in a call, to begin with.
        trie: what is kept.
    """

    def __init__(self, tokens: int, trie: ActivationTrie) -> None:
        self.tokens = tokens
        self._trie = trie

    def fit(self, call: Callable[[int], Result]) -> Result:
        """What ``call(tokens)`` returns. Where it runs out of memory it is called again with half as many tokens, so it
        must have changed nothing by then.

        Raises:
            UserError: if that does not help.
        """
        while True:
            try:
                return call(self.tokens)
            except torch.OutOfMemoryError as error:
                if self.tokens < 2 * _LEAST:
                    reason = str(error).split(". ")[0]
                    raise UserError(
                        f"out of memory with {self.tokens} tokens a call ({reason}); give device split, a smaller "
                        "dtype or another device"
                    ) from None
            # Outside of the handler, where nothing holds the tensors of the call that failed.
            self.tokens //= 2
            self._trie.shrink(self._trie.budget_bytes // 2)
            torch.cuda.empty_cache()
            console.print(f"out of memory: at most {self.tokens} tokens a call and half the prefix cache from here on")
