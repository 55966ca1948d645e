"""The controller and its training."""

from cola_learn.train.choice import ChoiceRule
from cola_learn.train.config import ControllerConfig
from cola_learn.train.controller import Controller

__all__ = ["ChoiceRule", "Controller", "ControllerConfig"]
