"""Policies: what maps a prompt to the chain it runs through, and learners of policies."""

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

from cola_learn.chains import Chain
from cola_learn.command import by_path
from cola_learn.errors import UserError
from cola_learn.label.score_matrix import ScoreMatrix
from cola_learn.tasks.questions import Sample
from cola_learn.train.controller import Controller


@dataclass(frozen=True)
class Policy:
    """A policy of your own, named by its dotted path (``--policies my_module.MINE``).

    Attributes:
        name: in the report.
        choose: a chain, or its text, for each of some samples. These do not say which option is right.
        priced: whether ``choose`` takes a price of depth too, of which more makes chains shorter: with ``--held`` the
            policy is then set to every depth, by the price that reaches it on training questions. Without, the price
            is 0.
    """

    name: str
    choose: Callable[..., Sequence[Chain | str]]
    priced: bool = False


def policy_named(path: str) -> "Policy | Learner":
    """A policy, or a learner of one, by its dotted path.

    Raises:
        UserError: if there is none.
    """
    found = by_path(path, "--policies")
    if not isinstance(found, Policy | Learner):
        raise UserError(f"--policies {path} is no Policy; give the dotted path of one, such as my_module.MINE")
    return found


def chosen_by(policy: Policy, samples: Sequence[Sample], num_layers: int, price: float = 0.0) -> list[Chain]:
    """What a policy of one's own chooses, at a price if it takes one.

    Raises:
        UserError: if that is not a chain of the backbone for each sample.
    """
    found = list(policy.choose(samples, price) if policy.priced else policy.choose(samples))
    if len(found) != len(samples):
        raise UserError(f"policy {policy.name} chose {len(found)} chains for {len(samples)} questions")
    chains = []
    for sample, chain in zip(samples, found, strict=True):
        try:
            own = Chain.parse(chain, num_layers) if isinstance(chain, str) else chain
        except ValueError as error:
            raise UserError(f"policy {policy.name}, question {sample.key}: {error}") from None
        if not isinstance(own, Chain) or own.num_layers != num_layers:
            raise UserError(
                f"policy {policy.name}, question {sample.key}: {chain!r} is no chain of {num_layers} layers"
            )
        chains.append(own)
    return chains


def controller_beams(controller: Controller, features: Sequence[Tensor], beams: int = 5) -> list[list[Chain]]:
    """For each prompt's features ``[T, F, H]`` the controller's chains; the greedy one comes first."""
    chosen = []
    for prompt in features:
        greedy = controller.choose(prompt)
        others = [chain for chain, _ in controller.write(prompt, beams) if chain != greedy]
        chosen.append([greedy, *others][:beams])
    return chosen


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
