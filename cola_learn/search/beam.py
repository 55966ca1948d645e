"""Beam search; a width of 1 is greedy search."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from cola_learn.chains import Chain, SearchSpace
from cola_learn.search.method import Prior, Search, SearchMethod, at_least_one
from cola_learn.search.moves import random_edit


@dataclass(frozen=True)
class Beam(SearchMethod):
    """The best few chains, some random edits of each, again and again.

    Attributes:
        simulations: budget per question, base chain included.
        width: chains that are kept.
        branch: edits that are tried in one step, over all chains kept.
    """

    simulations: int = 50
    width: int = 4
    branch: int = 16

    def __post_init__(self) -> None:
        at_least_one(simulations=self.simulations, width=self.width, branch=self.branch)

    def start(
        self,
        num_layers: int,
        space: SearchSpace,
        seed: str,
        prior: Prior | None = None,
        twin: Search | None = None,
    ) -> Search:
        return BeamSearch(num_layers, space, self.simulations, self.width, self.branch, seed)


class BeamSearch:
    """Keeps the best ``width`` chains of all and tries some random edits of each, again and again.

    Best is: right before wrong, of right ones the shortest, then the highest margin.

    Args:
        num_layers, space, budget, seed: as of ``SearchMethod.start``, and the chains asked for in all.
        width: chains kept.
        branch: edits tried in one step, over all chains kept.
    """

    def __init__(self, num_layers: int, space: SearchSpace, budget: int, width: int, branch: int, seed: str) -> None:
        self.simulations = 0
        self._space = space
        self._budget = budget
        self._width = width
        self._each = max(1, branch // width)
        self._random = random.Random(seed)
        base = Chain.base(num_layers)
        self._ranks: dict[Chain, tuple[float, int, float]] = {}
        self._links: list[tuple[Chain, Chain]] = []
        self._used = {base: 0}
        self._waiting = deque([base])

    def ask(self) -> Chain | None:
        """The next chain; None when the budget is spent, or when the chains kept have no new edits."""
        if self.simulations >= self._budget:
            return None
        if not self._waiting:
            self._step()
        return self._waiting.popleft() if self._waiting else None

    def tell(self, chain: Chain, reward: float, margin: float) -> None:
        self.simulations += 1
        self._ranks[chain] = (reward, -chain.depth if reward >= 1 else 0, margin)

    def visits(self, chain: Chain) -> int:
        return 1

    def links(self) -> Iterator[tuple[Chain, Chain]]:
        """Each chain tried, and the one kept that it was made of."""
        return iter(self._links)

    def _step(self) -> None:
        parents = 0
        for parent in sorted(self._ranks, key=self._ranks.__getitem__, reverse=True):
            before = len(self._waiting)
            while len(self._waiting) < before + self._each:
                found = random_edit(parent, self._used[parent], self._space, self._random, self._used)
                if found is None:
                    break
                chain, used = found
                self._used[chain] = used
                self._links.append((parent, chain))
                self._waiting.append(chain)
            parents += len(self._waiting) > before
            if parents == self._width:
                return
