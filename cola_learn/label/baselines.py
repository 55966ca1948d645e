"""Searches without a tree: random edits, beams, and lists of chains."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cola_learn.chains import Chain, SearchSpace
from cola_learn.label.menu_file import read_menu
from cola_learn.label.moves import random_edit
from cola_learn.label.search import Prior, Search, SearchMethod, at_least_one

_MOST_EDITS = 4
_TRIES = 100


@dataclass(frozen=True)
class RandomEdits(SearchMethod):
    """Chains of 1 to 4 random edits.

    Attributes:
        simulations: budget of one search, the base chain included.
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


@dataclass(frozen=True)
class Beam(SearchMethod):
    """The best few chains, some random edits of each, again and again.

    Attributes:
        simulations: budget of one search, the base chain included.
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


@dataclass(frozen=True)
class Greedy(SearchMethod):
    """A beam of one: the best chain, some random edits of it, again and again.

    Attributes:
        simulations: budget of one search, the base chain included.
        branch: edits that are tried in one step.
    """

    simulations: int = 50
    branch: int = 16

    def __post_init__(self) -> None:
        at_least_one(simulations=self.simulations, branch=self.branch)

    def start(
        self,
        num_layers: int,
        space: SearchSpace,
        seed: str,
        prior: Prior | None = None,
        twin: Search | None = None,
    ) -> Search:
        return BeamSearch(num_layers, space, self.simulations, 1, self.branch, seed)


class Listed(SearchMethod):
    """Chains of a list, each once, in order: a list is its own budget."""

    def chains(self, num_layers: int, space: SearchSpace) -> tuple[Chain, ...]:
        """The chains, the base chain first."""
        raise NotImplementedError

    def budget(self, num_layers: int, space: SearchSpace) -> int:
        return len(self.chains(num_layers, space))


@dataclass(frozen=True)
class Scan(Listed):
    """Every single edit of the space once: by executions (skips first), block length, start."""

    def chains(self, num_layers: int, space: SearchSpace) -> tuple[Chain, ...]:
        return scanned(num_layers, space)

    def start(
        self,
        num_layers: int,
        space: SearchSpace,
        seed: str,
        prior: Prior | None = None,
        twin: Search | None = None,
    ) -> Search:
        return ListSearch(self.chains(num_layers, space), one_edit=True)


@dataclass(frozen=True)
class Menu(Listed):
    """Every chain of a file once, in order.

    Attributes:
        file: chains, one a line; python -m cola_learn.label menu makes one.
    """

    file: Path

    def chains(self, num_layers: int, space: SearchSpace) -> tuple[Chain, ...]:
        """Raises:
        UserError: if the file cannot be read.
        """
        base = Chain.base(num_layers)
        return (base, *(chain for chain in read_menu(self.file, num_layers) if chain != base))

    def start(
        self,
        num_layers: int,
        space: SearchSpace,
        seed: str,
        prior: Prior | None = None,
        twin: Search | None = None,
    ) -> Search:
        return ListSearch(self.chains(num_layers, space), one_edit=False)


@lru_cache(maxsize=8)
def scanned(num_layers: int, space: SearchSpace) -> tuple[Chain, ...]:
    """The base chain and what every edit makes of it."""
    base = Chain.base(num_layers)
    edits = sorted(space.legal_edits(base), key=lambda edit: (getattr(edit, "times", 0), edit.length, edit.start))
    return (base, *(space.apply(base, edit) for edit in edits))


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


class BeamSearch:
    """Keeps the best ``width`` chains of all and tries some random edits of each, again and again.

    Best is: right before wrong, of right ones the shortest, then the highest margin. A width of 1 is greedy search.

    Args:
        num_layers, space, budget, seed: as of :class:`RandomSearch`.
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


class ListSearch:
    """Chains of a list, each once, in order: a menu, or all single edits, which a heat map of the layers needs.

    Args:
        chains: the base chain first.
        one_edit: whether all others are one edit away from it.
    """

    def __init__(self, chains: Sequence[Chain], one_edit: bool) -> None:
        self.simulations = 0
        self._chains = chains
        self._one_edit = one_edit

    def ask(self) -> Chain | None:
        return self._chains[self.simulations] if self.simulations < len(self._chains) else None

    def tell(self, chain: Chain, reward: float, margin: float) -> None:
        self.simulations += 1

    def visits(self, chain: Chain) -> int:
        return 1

    def links(self) -> Iterator[tuple[Chain, Chain]]:
        """The base chain and every other, if that is one edit."""
        return ((self._chains[0], chain) for chain in self._chains[1 : self.simulations if self._one_edit else 1])
