"""cola-learn: find, learn and measure a better chain of layers for every input of a pretrained LLM.

The public names below are loaded when first used, so that ``import cola_learn`` and ``--help`` stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cola_learn.backbone.apply_chain import apply_chain
    from cola_learn.backbone.backbone import Backbone
    from cola_learn.backbone.executor import Executor
    from cola_learn.backbone.load import load_backbone
    from cola_learn.backbone.rows import Row
    from cola_learn.chains import Chain, Repeat, SearchSpace, Skip
    from cola_learn.infer.model import ColaForCausalLM
    from cola_learn.label.plan import Plan
    from cola_learn.label.records import Label, Trial
    from cola_learn.label.store import LabelStore
    from cola_learn.rewards.judges import make_judge, score_questions
    from cola_learn.rewards.scoring import Scoring
    from cola_learn.search.mcts import MCTS
    from cola_learn.search.method import SearchMethod
    from cola_learn.tasks.load_task import load_task
    from cola_learn.tasks.questions import Question, Sample, as_sample
    from cola_learn.train.controller import Controller
    from cola_learn.train.controller_config import ControllerConfig

_HOME_OF = {
    "Backbone": "cola_learn.backbone.backbone",
    "Chain": "cola_learn.chains",
    "ColaForCausalLM": "cola_learn.infer.model",
    "Controller": "cola_learn.train.controller",
    "ControllerConfig": "cola_learn.train.controller_config",
    "Executor": "cola_learn.backbone.executor",
    "Label": "cola_learn.label.records",
    "LabelStore": "cola_learn.label.store",
    "MCTS": "cola_learn.search.mcts",
    "Plan": "cola_learn.label.plan",
    "Question": "cola_learn.tasks.questions",
    "Repeat": "cola_learn.chains",
    "Row": "cola_learn.backbone.rows",
    "Sample": "cola_learn.tasks.questions",
    "Scoring": "cola_learn.rewards.scoring",
    "SearchMethod": "cola_learn.search.method",
    "SearchSpace": "cola_learn.chains",
    "Skip": "cola_learn.chains",
    "Trial": "cola_learn.label.records",
    "apply_chain": "cola_learn.backbone.apply_chain",
    "as_sample": "cola_learn.tasks.questions",
    "load_backbone": "cola_learn.backbone.load",
    "load_task": "cola_learn.tasks.load_task",
    "make_judge": "cola_learn.rewards.judges",
    "score_questions": "cola_learn.rewards.judges",
}

__all__ = [
    "MCTS",
    "Backbone",
    "Chain",
    "ColaForCausalLM",
    "Controller",
    "ControllerConfig",
    "Executor",
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


__version__ = "0.1.0"

if not TYPE_CHECKING:  # a type checker is to miss what is not there

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'cola_learn' has no attribute {name!r}")
        return getattr(import_module(_HOME_OF[name]), name)
