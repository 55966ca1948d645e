"""A benchmark as samples, prompts and a reward."""

from cola_learn.tasks.answer_columns import AnswersAs
from cola_learn.tasks.answer_verifier import AnswerVerifier
from cola_learn.tasks.answer_writer import AnswerWriter
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.encoding import encode
from cola_learn.tasks.judges import Judge, ModelJudge, make_judge, score_questions
from cola_learn.tasks.load import load_task
from cola_learn.tasks.option_scorer import OptionScorer
from cola_learn.tasks.prompts import Prompt
from cola_learn.tasks.questions import Question, Sample, Template, Truncate, as_sample
from cola_learn.tasks.registry import BENCHMARKS
from cola_learn.tasks.scores import AnswerScores, OptionScores, Scores
from cola_learn.tasks.scoring import Metric, Reward, Scoring

__all__ = [
    "BENCHMARKS",
    "AnswerScores",
    "AnswerVerifier",
    "AnswerWriter",
    "AnswersAs",
    "Judge",
    "Layout",
    "Metric",
    "ModelJudge",
    "OptionScorer",
    "OptionScores",
    "Prompt",
    "Question",
    "Reward",
    "Sample",
    "Scores",
    "Scoring",
    "Template",
    "Truncate",
    "as_sample",
    "encode",
    "load_task",
    "make_judge",
    "score_questions",
]
