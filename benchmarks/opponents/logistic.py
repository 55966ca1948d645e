"""Logistic regression from a prompt to the chain of a menu that is best for it.

    python -m cola_learn.evaluate --config configs/evaluate/menu.yaml --controllers checkpoints/menu \\
        --policies benchmarks.opponents.logistic.LOGISTIC
"""

from collections.abc import Sequence

import numpy
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cola_learn.evaluate.policies import Array, Learner, fitted, pooled
from cola_learn.label.score_matrix import ScoreMatrix


def menu_classifier(prompts: Sequence[Tensor], table: ScoreMatrix, others: Sequence[Tensor]) -> Array:
    """Log-probability that each chain has the highest soft reward for other prompts, ``[Q', C]``."""
    model = fitted(LogisticRegression(C=1e-3, max_iter=300), pooled(prompts), table.soft.argmax(1))
    found = numpy.full((len(others), len(table.chains)), -20.0)
    found[:, model[-1].classes_] = model.predict_log_proba(pooled(others))
    return found


LOGISTIC = Learner("logistic", menu_classifier, scale=50.0)
