"""The search methods that come with cola-learn; a user's own subclass ``SearchMethod`` too."""

from cola_learn.search.beam import Beam
from cola_learn.search.listed import Menu, Scan
from cola_learn.search.mcts import MCTS
from cola_learn.search.method import SearchMethod
from cola_learn.search.random_edits import RandomEdits

__all__ = ["MCTS", "Beam", "Menu", "RandomEdits", "Scan", "SearchMethod"]
