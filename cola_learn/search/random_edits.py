"""Random edits: the baseline search."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from cola_learn.chains import Chain, SearchSpace
from cola_learn.search.method import Prior, Search, SearchMethod, at_least_one
from cola_learn.search.moves import random_edit

_MOST_EDITS = 4
_TRIES = 100


@dataclass(frozen=True)
class RandomEdits(SearchMethod):
    """Chains of 1 to 4 random edits.

    Attributes:
        simulations: budget per question, base chain included.
    """

    simulations: int = 50

    def __post_init__(self) -> None:
        at_least_one(simulations=self.simulations)

    def start(
        self,
        num_layers: int,
        space: SearchSpace,
        seed: str,
        prior: Prior | None = None,
        twin: Search | None = None,
    ) -> Search:
        return RandomSearch(num_layers, space, self.simulations, seed)


class RandomSearch:
    """Chains of one to four random edits, no chain twice.

    Args:
        num_layers: N of the backbone.
        space: which edits may follow a chain.
        budget: chains asked for in all, the base chain first.
        seed: everything random in the search follows from it.
    """

    def __init__(self, num_layers: int, space: SearchSpace, budget: int, seed: str) -> None:
        self.simulations = 0
        self._space = space
        self._budget = budget
        self._random = random.Random(seed)
        self._base = Chain.base(num_layers)
        self._seen: set[Chain] = set()

    def ask(self) -> Chain | None:
        """The next chain; None when the budget is spent, or when no new chain turns up any more."""
        if self.simulations >= self._budget:
            return None
        chain, used = self._base, 0
        for _ in range(_TRIES):
            if chain not in self._seen:
                self._seen.add(chain)
                return chain
            chain, used = self._base, 0
            for _ in range(self._random.randint(1, _MOST_EDITS)):
                chain, used = random_edit(chain, used, self._space, self._random) or (chain, used)
        return None

    def tell(self, chain: Chain, reward: float, margin: float) -> None:
        """Nothing is learned from what a chain is worth."""
        self.simulations += 1

    def visits(self, chain: Chain) -> int:
        return 1

    def links(self) -> Iterator[tuple[Chain, Chain]]:
        return iter(())
