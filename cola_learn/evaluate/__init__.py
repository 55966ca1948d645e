"""Honest measurement of a controller on held-out questions."""

from cola_learn.evaluate.statistics import Outcome, PolicySummary, summarize_policy

__all__ = ["Outcome", "PolicySummary", "summarize_policy"]
