"""Labels: the chains that a search found good for each training question."""

from cola_learn.label.mcts import ChainSearch, SearchSettings
from cola_learn.label.records import Label, Trial
from cola_learn.label.store import LabelStore, Manifest

__all__ = ["ChainSearch", "Label", "LabelStore", "Manifest", "SearchSettings", "Trial"]
