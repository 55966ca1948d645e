"""The controller and its training."""
