"""cola-learn: find, learn and measure a better chain of layers for every input of a pretrained LLM.

The public names below are loaded when first used, so that ``import cola_learn`` and ``--help`` stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cola_learn.backbone import Backbone, Decoding, Executor, Generator, Row, load_backbone
    from cola_learn.chains import Chain, Repeat, SearchSpace, Skip
    from cola_learn.infer import ColaForCausalLM, apply_chain
    from cola_learn.label import MCTS, Label, LabelStore, Plan, SearchMethod, Trial
    from cola_learn.tasks import Question, Sample, Scoring, as_sample, load_task, make_judge, score_questions
    from cola_learn.train import Controller, ControllerConfig

_HOMES = {
    "backbone": ("Backbone", "Decoding", "Executor", "Generator", "Row", "load_backbone"),
    "chains": ("Chain", "Repeat", "SearchSpace", "Skip"),
    "infer": ("ColaForCausalLM", "apply_chain"),
    "label": ("MCTS", "Label", "LabelStore", "Plan", "SearchMethod", "Trial"),
    "tasks": ("Question", "Sample", "Scoring", "as_sample", "load_task", "make_judge", "score_questions"),
    "train": ("Controller", "ControllerConfig"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "MCTS",
    "Backbone",
    "Chain",
    "ColaForCausalLM",
    "Controller",
    "ControllerConfig",
    "Decoding",
    "Executor",
    "Generator",
    "Label",
    "LabelStore",
    "Plan",
    "Question",
    "Repeat",
    "Row",
    "Sample",
    "Scoring",
    "SearchMethod",
    "SearchSpace",
    "Skip",
    "Trial",
    "apply_chain",
    "as_sample",
    "load_backbone",
    "load_task",
    "make_judge",
    "score_questions",
]


if not TYPE_CHECKING:  # a type checker is to miss what is not there

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'cola_learn' has no attribute {name!r}")
        return getattr(import_module(f"cola_learn.{_HOME_OF[name]}"), name)
