"""The search methods that come with cola-learn; a user's own subclass ``SearchMethod`` too."""

from cola_learn.label.beam import Beam
from cola_learn.label.listed import Menu, Scan
from cola_learn.label.mcts import MCTS
from cola_learn.label.random_edits import RandomEdits
from cola_learn.label.search import SearchMethod

__all__ = ["MCTS", "Beam", "Menu", "RandomEdits", "Scan", "SearchMethod"]
