"""The frozen LLM: its layers as functions, run in any order, shared work done once."""

from cola_learn.backbone.executor import Counters, Executor, Usage
from cola_learn.backbone.generate import Decoding, Generator
from cola_learn.backbone.load import load_backbone
from cola_learn.backbone.recording import Batch, Recording
from cola_learn.backbone.replay import Backbone
from cola_learn.backbone.rows import Row
from cola_learn.backbone.trie import ActivationTrie

__all__ = [
    "ActivationTrie",
    "Backbone",
    "Batch",
    "Counters",
    "Decoding",
    "Executor",
    "Generator",
    "Recording",
    "Row",
    "Usage",
    "load_backbone",
]
