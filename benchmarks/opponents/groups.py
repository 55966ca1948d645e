"""Routers that other people train on the likelihood of an answer, rebuilt on the controller's prompt features.

PuDDing (arXiv 2502.04348) predicts the loss that each omission set brings by a network, trained by squared error.
IG-Pruning (arXiv 2511.02213) has a set for each cluster of prompts.

    python -m cola_learn.evaluate --config configs/evaluate/texts.yaml \\
        --policies benchmarks.opponents.groups.PUDDING benchmarks.opponents.groups.IG_PRUNING
"""

from collections.abc import Sequence

import numpy
from sklearn.cluster import KMeans
from sklearn.neural_network import MLPRegressor
from torch import Tensor

from cola_learn.evaluate.policies import Array, Learner, fitted, pooled
from cola_learn.label.score_matrix import ScoreMatrix

_CLUSTERS = 16


def loss_router(prompts: Sequence[Tensor], table: ScoreMatrix, others: Sequence[Tensor]) -> Array:
    """Gains of every chain ``[Q', C]`` as a small network predicts them from the prompt."""
    network = MLPRegressor(hidden_layer_sizes=(256,), alpha=1e-2, early_stopping=True, max_iter=300, random_state=0)
    found: Array = fitted(network, pooled(prompts), table.soft - table.soft[:, :1]).predict(pooled(others))
    return found


def cluster_masks(prompts: Sequence[Tensor], table: ScoreMatrix, others: Sequence[Tensor]) -> Array:
    """Gains of every chain ``[Q', C]`` in the mean over the training prompts of the nearest cluster."""
    model = fitted(KMeans(_CLUSTERS, n_init=10, random_state=0), pooled(prompts), table.tasks)
    own, gains = model[-1].labels_, table.soft - table.soft[:, :1]
    means = numpy.stack([gains[own == cluster].mean(0) for cluster in range(_CLUSTERS)])
    found: Array = means[model.predict(pooled(others))]
    return found


PUDDING = Learner("pudding", loss_router)
IG_PRUNING = Learner("ig_pruning", cluster_masks)
