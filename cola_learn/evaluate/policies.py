"""Policies: what maps a prompt to the chain it runs through.

A policy sees prompts only. Those that see the gold answer are built from their trials where questions are run
(``comparison.py``) and are always called oracles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from cola_learn.chains import Chain
from cola_learn.command import by_path
from cola_learn.errors import UserError
from cola_learn.evaluate.learners import Learner
from cola_learn.tasks.questions import Sample
from cola_learn.train.controller import Controller


@dataclass(frozen=True)
class Policy:
    """A policy of your own, named by its dotted path (``--policies my_module.MINE``).

    Attributes:
        name: in the report.
        choose: a chain, or its text, for each of some samples. These do not say which option is right.
    """

    name: str
    choose: Callable[[Sequence[Sample]], Sequence[Chain | str]]


def policy_named(path: str) -> "Policy | Learner":
    """A policy, or a learner of one, by its dotted path.

    Raises:
        UserError: if there is none.
    """
    found = by_path(path, "--policies")
    if not isinstance(found, Policy | Learner):
        raise UserError(f"--policies {path} is no Policy; give the dotted path of one, such as my_module.MINE")
    return found


def chosen_by(policy: Policy, samples: Sequence[Sample], num_layers: int) -> list[Chain]:
    """What a policy of one's own chooses.

    Raises:
        UserError: if that is not a chain of the backbone for each sample.
    """
    found = list(policy.choose(samples))
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
