"""The interface of search methods and searches.

A method is a value: settings, and ``SearchMethod.start``. What it starts, one search for one question, is asked for
chains and told what they are worth; it never knows what evaluates them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Protocol

from cola_learn.chains import Chain, Edit, SearchSpace

Prior = Mapping[Edit, float]


class Search(Protocol):
    """One sample's search."""

    simulations: int
    """Simulations settled so far."""

    def ask(self) -> Chain | None:
        """The next chain to evaluate, never one told before, the base chain first; None when the budget or the space
        is spent.

        Every chain asked for must be told before the next ask.
        """

    def tell(self, chain: Chain, reward: float, margin: float) -> None:
        """The reward of the chain last asked for, as a share of what makes a chain good: 1 is good. And its margin, in
        nats."""

    def visits(self, chain: Chain) -> int:
        """How often the search has come through a chain that it was told about."""

    def links(self) -> Iterable[tuple[Chain, Chain]]:
        """Pairs of chains that one edit of the space leads between, as far as the search went that way."""


class SearchMethod(ABC):
    """How chains are searched for. A subclass is a frozen dataclass of the method's own settings; a setting that is a
    path names a file, or a label store, of which only the content counts."""

    def budget(self, num_layers: int, space: SearchSpace) -> int:
        """The most simulations that a search makes; by default the setting ``simulations``."""
        return int(vars(self)["simulations"])

    @abstractmethod
    def start(
        self,
        num_layers: int,
        space: SearchSpace,
        seed: str,
        prior: Prior | None = None,
        twin: Search | None = None,
    ) -> Search:
        """A search for one sample.

        Args:
            num_layers: N of the backbone.
            space: which edits may follow a chain.
            seed: everything random in the search follows from it.
            prior: weight of every edit, for methods that can be guided; edits it does not name get the least weight
                it gives.
            twin: a search started with the same arguments for other rewards of the same sample; what does not depend
                on rewards may be shared with it.
        """

    @property
    def name(self) -> str:
        """The class, by its name alone if it is one of cola-learn's, else by its dotted path."""
        home = type(self).__module__
        return type(self).__qualname__ if home.startswith("cola_learn.") else f"{home}.{type(self).__qualname__}"

    def flags(self, option: str = "--search") -> list[str]:
        """Command-line arguments that give this method."""
        defaults = {field.name: field.default for field in fields(self)}  # type: ignore[arg-type]  # of subclasses
        changed: dict[str, Any] = {key: value for key, value in vars(self).items() if value != defaults[key]}
        return [option, self.name, *(f"{option}.{name}={value}" for name, value in changed.items())]


def at_least_one(**values: int) -> None:
    """Raises:
    ValueError: naming the setting that is less than 1.
    """
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"search.{name} is {value}; give at least 1")
