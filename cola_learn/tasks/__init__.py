"""A benchmark as samples, prompts and a reward."""

from cola_learn.tasks.load import load_task
from cola_learn.tasks.questions import Question, Sample, Template, as_sample
from cola_learn.tasks.registry import BENCHMARKS
from cola_learn.tasks.scoring import Metric, OptionScores, Scorer, encode

__all__ = [
    "BENCHMARKS",
    "Metric",
    "OptionScores",
    "Question",
    "Sample",
    "Scorer",
    "Template",
    "as_sample",
    "encode",
    "load_task",
]
