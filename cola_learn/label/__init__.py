"""Labels: the chains that a search found good for each training question."""

from cola_learn.label.manifest import Manifest
from cola_learn.label.methods import MCTS, Beam, Greedy, Menu, RandomEdits, Scan
from cola_learn.label.plan import Plan, Resources
from cola_learn.label.records import Label, Luck, Trial
from cola_learn.label.search import Prior, Search, SearchMethod
from cola_learn.label.store import LabelStore

__all__ = [
    "MCTS",
    "Beam",
    "Greedy",
    "Label",
    "LabelStore",
    "Luck",
    "Manifest",
    "Menu",
    "Plan",
    "Prior",
    "RandomEdits",
    "Resources",
    "Scan",
    "Search",
    "SearchMethod",
    "Trial",
]
