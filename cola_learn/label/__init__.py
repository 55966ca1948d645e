"""Labels: the chains that a search found good for each training question."""

from cola_learn.label.manifest import Manifest
from cola_learn.label.methods import make_search
from cola_learn.label.records import Label, Luck, Trial
from cola_learn.label.search import Search, SearchSettings
from cola_learn.label.store import LabelStore

__all__ = ["Label", "LabelStore", "Luck", "Manifest", "Search", "SearchSettings", "Trial", "make_search"]
