"""Simple learners on the same labels: a controller that does not beat them is not worth a network.

All read prompts pooled to one vector: the mean over tokens and the last token, of every feature layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from cola_learn.label.score_matrix import ScoreMatrix

Array = NDArray[numpy.float64]
_COMPONENTS = 256


@dataclass(frozen=True)
class Learner:
    """What learns from the scores of a menu which chain suits a prompt. One of your own is named by its dotted path
    (``--policies my_module.MINE``) and needs ``--held``.

    Attributes:
        name: in the report.
        fit: from training prompts ``[T, F, H]``, their scores, and other prompts: a score of every chain for each of
            the others, ``[Q, C]``; the highest is chosen.
        scale: what all layers are worth at a price of 1, in units of its scores.
    """

    name: str
    fit: Callable[[Sequence[Tensor], ScoreMatrix, Sequence[Tensor]], Array]
    scale: float = 1.0


def pooled(features: Sequence[Tensor]) -> Array:
    """Prompts ``[T, F, H]`` as vectors ``[Q, 2 F H]``."""
    rows = [torch.cat([prompt.float().mean(0).flatten(), prompt[-1].float().flatten()]) for prompt in features]
    return torch.stack(rows).double().numpy()


def menu_regressor(prompts: Sequence[Tensor], table: ScoreMatrix, held: Sequence[Tensor]) -> Array:
    """Predicted gain of every chain for other prompts ``[Q', C]``, by ridge regression, its penalty chosen by
    cross-validation, from prompts to what chains gained there."""
    model = fitted(RidgeCV(numpy.logspace(1, 7, 13)), pooled(prompts), table.soft - table.soft[:, :1])
    found: Array = model.predict(pooled(held))
    return found


def task_reader(prompts: Sequence[Tensor], table: ScoreMatrix, held: Sequence[Tensor]) -> Array:
    """Predicted gain of every chain for other prompts ``[Q', C]``: its mean gain on each task, weighted by the
    probability of the task, which logistic regression reads off the prompt."""
    gains, tasks = table.soft - table.soft[:, :1], numpy.unique(table.tasks)
    means = numpy.stack([gains[table.tasks == task].mean(0) for task in tasks])
    if len(tasks) == 1:
        return numpy.repeat(means, len(held), axis=0)
    model = fitted(LogisticRegression(C=1e-2, max_iter=1000), pooled(prompts), table.tasks)
    found: Array = model.predict_proba(pooled(held)) @ means  # both in the order of the tasks' names
    return found


def fitted(model: Any, vectors: Array, targets: NDArray) -> Pipeline:
    """A scikit-learn model, fitted on the principal components of vectors ``[Q, D]``."""
    components = PCA(min(_COMPONENTS, *vectors.shape), svd_solver="randomized", random_state=0)
    return make_pipeline(StandardScaler(), components, model).fit(vectors, targets)


LEARNERS = (Learner("ridge", menu_regressor), Learner("task_reader", task_reader))
