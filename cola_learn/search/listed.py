"""Searches over a fixed list of chains: all single edits (Scan), or a menu."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from cola_learn.chains import Chain, SearchSpace
from cola_learn.errors import UserError
from cola_learn.search.method import Prior, Search, SearchMethod

LARGEST = 256
"""Chains of a menu."""


class Listed(SearchMethod):
    """Chains of a list, each once, in order: a list is its own budget."""

    one_edit: ClassVar[bool] = False
    """Whether all chains but the base chain are one edit away from it."""

    @abstractmethod
    def chains(self, num_layers: int, space: SearchSpace) -> tuple[Chain, ...]:
        """The chains, the base chain first."""

    def budget(self, num_layers: int, space: SearchSpace) -> int:
        return len(self.chains(num_layers, space))

    def start(
        self,
        num_layers: int,
        space: SearchSpace,
        seed: str,
        prior: Prior | None = None,
        twin: Search | None = None,
    ) -> Search:
        return ListSearch(self.chains(num_layers, space), one_edit=self.one_edit)


@dataclass(frozen=True)
class Scan(Listed):
    """Every single edit of the space once: by executions (skips first), block length, start."""

    one_edit = True

    def chains(self, num_layers: int, space: SearchSpace) -> tuple[Chain, ...]:
        return scanned(num_layers, space)


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


@lru_cache(maxsize=8)
def scanned(num_layers: int, space: SearchSpace) -> tuple[Chain, ...]:
    """The base chain and what every edit makes of it."""
    base = Chain.base(num_layers)
    edits = sorted(space.legal_edits(base), key=lambda edit: (getattr(edit, "times", 0), edit.length, edit.start))
    return (base, *(space.apply(base, edit) for edit in edits))


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


@lru_cache(maxsize=8)
def read_menu(file: Path, num_layers: int) -> tuple[Chain, ...]:
    """The chains of a menu file: one a line, ``#`` begins a comment.

    Raises:
        UserError: naming the line that is no chain of so many layers.
    """
    chains: dict[Chain, None] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"menu {file} cannot be read ({error}); python -m cola_learn.label menu makes one") from None
    lines = [line.split("#")[0].strip() for line in lines]
    if (count := len(list(filter(None, lines)))) > LARGEST:
        raise UserError(f"menu {file} has {count} chains; at most {LARGEST} are run")
    for number, text in enumerate(lines, start=1):
        if text:
            try:
                chains[Chain.parse(text, num_layers)] = None
            except ValueError as error:
                raise UserError(f"menu {file} line {number}: {error}") from None
    if not chains:
        raise UserError(f"menu {file} holds no chains; write one a line, such as 0-11 14-29")
    return tuple(chains)
