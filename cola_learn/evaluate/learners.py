"""Simple learners on the same labels: a controller that does not beat them is not worth a network.

All read prompts pooled to one vector: the mean over tokens and the last token, of every feature layer.
"""

from collections.abc import Sequence

import numpy
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from cola_learn.backbone.backbone import Backbone
from cola_learn.label.score_matrix import ScoreMatrix

Array = NDArray[numpy.float64]
_COMPONENTS = 256


def pooled(features: Sequence[Tensor]) -> Array:
    """Prompts ``[T, F, H]`` as vectors ``[Q, 2 F H]``."""
    rows = [torch.cat([prompt.float().mean(0).flatten(), prompt[-1].float().flatten()]) for prompt in features]
    return torch.stack(rows).double().numpy()


def menu_regressor(prompts: Array, table: ScoreMatrix, held: Array) -> Array:
    """Predicted gain of every chain for held-out prompts ``[Q', C]``, by ridge regression, its penalty chosen by
    cross-validation, from prompts ``[Q, D]`` to what chains gained there."""
    model = make_pipeline(StandardScaler(), _components(prompts), RidgeCV(numpy.logspace(1, 7, 13)))
    model.fit(prompts, table.soft - table.soft[:, :1])
    found: Array = model.predict(held)
    return found


def menu_classifier(prompts: Array, table: ScoreMatrix, held: Array) -> Array:
    """Log-probability that each chain is the best for held-out prompts ``[Q', C]``, by logistic regression from
    prompts ``[Q, D]`` to the chain with the highest soft reward."""
    best = table.soft.argmax(1)
    model = make_pipeline(StandardScaler(), _components(prompts), LogisticRegression(C=1e-3, max_iter=300))
    model.fit(prompts, best)
    found = numpy.full((len(held), len(table.chains)), -20.0)
    found[:, model[-1].classes_] = model.predict_log_proba(held)
    return found


def task_reader(prompts: Array, table: ScoreMatrix, held: Array) -> Array:
    """Predicted gain of every chain for held-out prompts ``[Q', C]``: its mean gain on each task, weighted by the
    probability of the task, which logistic regression reads off prompts ``[Q, D]``."""
    gains, tasks = table.soft - table.soft[:, :1], numpy.unique(table.tasks)
    means = numpy.stack([gains[table.tasks == task].mean(0) for task in tasks])
    if len(tasks) == 1:
        return numpy.repeat(means, len(held), axis=0)
    model = make_pipeline(StandardScaler(), _components(prompts), LogisticRegression(C=1e-2, max_iter=1000))
    model.fit(prompts, table.tasks)
    found: Array = model.predict_proba(held) @ means  # both in the order of the tasks' names
    return found


def probe(
    prompts: Array, table: ScoreMatrix, held: Array, held_table: ScoreMatrix, backbone: Backbone, seed: int = 0
) -> NDArray[numpy.int64]:
    """Answers ``[Q']`` that a network gives from the same prompt vectors and the embeddings of the options' tokens,
    without running the backbone: how much can be answered from what a controller reads."""
    torch.manual_seed(seed)
    mean, deviation = prompts.mean(0), prompts.std(0) + 1e-6
    questions, others = (torch.tensor((rows - mean) / deviation).float() for rows in (prompts, held))
    options, missing = _options(table, backbone)
    model = _Probe(questions.shape[1], options.shape[2])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
    gold = torch.tensor(table.gold)
    for _ in range(6):
        for rows in torch.randperm(len(questions)).split(128):
            scores = model(questions[rows], options[rows]).masked_fill(missing[rows], -1e9)
            loss = nn.functional.cross_entropy(scores, gold[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    options, missing = _options(held_table, backbone)
    with torch.inference_mode():
        answers: NDArray[numpy.int64] = model.eval()(others, options).masked_fill(missing, -1e9).argmax(1).numpy()
    return answers


class _Probe(nn.Module):
    """Question vectors ``[B, D]`` and options ``[B, O, E]`` to scores ``[B, O]``."""

    def __init__(self, question: int, option: int, width: int = 128) -> None:
        super().__init__()
        self.question = nn.Sequential(nn.Dropout(0.3), nn.Linear(question, width))
        self.option = nn.Sequential(nn.LayerNorm(option), nn.Dropout(0.3), nn.Linear(option, width))
        self.score = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Dropout(0.3), nn.Linear(width, 1))

    def forward(self, questions: Tensor, options: Tensor) -> Tensor:
        asked, offered = self.question(questions)[:, None], self.option(options)
        asked = asked.expand_as(offered)
        scores: Tensor = self.score(torch.cat([asked, offered, asked * offered], -1))[:, :, 0]
        return scores


def _options(table: ScoreMatrix, backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Mean token embedding of every option ``[Q, O, E]``, and where there is none ``[Q, O]``."""
    weights = backbone.model.get_input_embeddings().weight.detach().float().cpu()
    found = torch.zeros(len(table), table.scores.shape[2], weights.shape[1])
    for row, question in enumerate(table.questions):
        for place, choice in enumerate(question.choices):
            tokens = backbone.tokenizer.encode(f" {choice}", add_special_tokens=False)
            found[row, place] = weights[tokens].mean(0)
    return found, torch.tensor(numpy.isinf(table.scores[:, 0]))


def _components(prompts: Array) -> PCA:
    return PCA(min(_COMPONENTS, *prompts.shape), svd_solver="randomized", random_state=0)
