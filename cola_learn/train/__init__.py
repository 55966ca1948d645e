"""The controller and its training."""

from cola_learn.train.controller import Controller, ControllerConfig

__all__ = ["Controller", "ControllerConfig"]
