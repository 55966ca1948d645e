"""Training objectives, as records; users may add their own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from cola_learn.command import by_name
from cola_learn.train.batches import TrainingBatch
from cola_learn.train.choice import Decides
from cola_learn.train.controller import Controller


class Read(NamedTuple):
    """What the controller made of a batch of B prompts with C chains each.

    Attributes:
        memory, padding: of the prompts, ``[B, M, width]`` and ``[B, M]``.
        states: after every prefix of edits, ``[B, C, L, width]``.
        prices: of depth that each prompt was read with, ``[B]``; 0 unless the objective is priced in training.
    """

    memory: Tensor
    padding: Tensor
    states: Tensor
    prices: Tensor


Loss = Callable[[Controller, TrainingBatch, Read], Tensor]
"""Mean over the prompts of a batch, a scalar."""


@dataclass(frozen=True)
class Objective:
    """What a controller is trained for.

    Attributes:
        loss: what training makes small.
        about: one line for the model card.
        decides: by what the trained controller chooses.
        priced: whether a price of depth changes what it chooses.
        draws_prices: whether prices are drawn in training and read by the network.
        needs_menu: whether all questions have to have the same chains.
    """

    loss: Loss
    about: str
    decides: Decides = "probability"
    priced: bool = False
    draws_prices: bool = False
    needs_menu: bool = True


def imitation(controller: Controller, batch: TrainingBatch, read: Read) -> Tensor:
    """Cross-entropy with the weighted good chains of each prompt, in nats."""
    logprobs = controller.likelihood(read.states, batch.tokens, batch.lengths)
    return -(batch.weights * logprobs).sum() / len(logprobs)


_LEAST_SPREAD = 0.3  # tenths of a nat


def value(controller: Controller, batch: TrainingBatch, read: Read) -> Tensor:
    """Squared error of each chain's predicted gain, relative to how far that chain's gains lie apart, and the
    likelihood of its spread, in units of a tenth. Chains that ruin many prompts would drown all others else."""
    values, spreads = controller.worth(read.states, batch.lengths, read.memory, read.padding)
    # The variance does not weigh the errors of the mean: the base chain's gain, always 0, would outweigh all others.
    values, gains = 10 * values, 10 * batch.gains
    spread = functional.gaussian_nll_loss(values.detach(), gains, 100 * spreads.exp(), eps=1e-2, reduction="none")
    errors = ((values - gains) / (10 * batch.spreads).clamp(min=_LEAST_SPREAD)) ** 2
    return (batch.real * (3 * errors + 0.1 * spread)).sum() / batch.real.sum()


OBJECTIVES: Mapping[str, Objective] = {
    "imitation": Objective(imitation, "weighted imitation of the chains that were found good", needs_menu=False),
    "value": Objective(
        value,
        "the predicted gain of each chain of a menu over the base chain; it runs the chain with the highest predicted "
        "gain, less a price of depth",
        decides="gain",
        priced=True,
    ),
}


def objective_named(name: str) -> Objective:
    """An objective by its name, or a user's own by its dotted path.

    Raises:
        UserError: if there is none of that name.
    """
    return by_name(name, OBJECTIVES, Objective, "--model.objective")
