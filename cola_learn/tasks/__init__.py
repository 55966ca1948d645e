"""A benchmark as samples, prompts and a reward."""

from cola_learn.tasks.answer_columns import AnswersAs
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.encoding import encode
from cola_learn.tasks.load import load_task
from cola_learn.tasks.prompts import Prompt
from cola_learn.tasks.questions import Question, Sample, Template, Truncate, as_sample
from cola_learn.tasks.registry import BENCHMARKS
from cola_learn.tasks.scores import AnswerScores, OptionScores, Scores
from cola_learn.tasks.scoring import Metric, Scorer
from cola_learn.tasks.writing import Confirmer, Writer

__all__ = [
    "BENCHMARKS",
    "AnswerScores",
    "AnswersAs",
    "Confirmer",
    "Layout",
    "Metric",
    "OptionScores",
    "Prompt",
    "Question",
    "Sample",
    "Scorer",
    "Scores",
    "Template",
    "Truncate",
    "Writer",
    "as_sample",
    "encode",
    "load_task",
]
