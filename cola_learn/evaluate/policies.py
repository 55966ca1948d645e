"""Policies: what maps a prompt to the chain it runs through.

A policy sees prompts only. The two that see the gold answer, the top-5 oracle and the search, are built in
``cola_learn.evaluate.live`` from their trials and are always called oracles.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from cola_learn.chains import Chain
from cola_learn.command import by_path
from cola_learn.console import progress_bar
from cola_learn.errors import UserError
from cola_learn.label.records import Label
from cola_learn.tasks.judge import Judge
from cola_learn.tasks.judges import score_questions
from cola_learn.tasks.questions import Question, Sample, Template
from cola_learn.tasks.scores import Scores
from cola_learn.tasks.temperature import soft_rewards
from cola_learn.train.controller import Controller

_TOGETHER = 8  # questions scored in one call


@dataclass(frozen=True)
class Policy:
    """A policy of your own, named by its dotted path (``--policies my_module.MINE``).

    Attributes:
        name: in the report.
        choose: a chain, or its text, for each of some samples. These do not say which option is right.
    """

    name: str
    choose: Callable[[Sequence[Sample]], Sequence[Chain | str]]


def policy_named(path: str) -> Policy:
    """A policy by its dotted path.

    Raises:
        UserError: if there is none.
    """
    found = by_path(path, "--policies")
    if not isinstance(found, Policy):
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


def shuffled(chains: Sequence[Chain], seed: int) -> list[Chain]:
    """Every question gets the chain chosen for another one: a random cyclic shift of a random order."""
    order = list(range(len(chains)))
    random.Random(seed).shuffle(order)
    giver = dict(zip(order, order[1:] + order[:1], strict=True))
    return [chains[giver[index]] for index in range(len(chains))]


def static_candidates(labels: Sequence[Label], max_depth: float, count: int) -> list[Chain]:
    """Chains of at most ``max_depth`` layers that did best in the labels, by mean reward shrunk to the
    overall mean (each was tried on a few samples only). The base chain is among them if it is short enough.
    """
    rewards: dict[Chain, list[float]] = defaultdict(list)
    for label in labels:
        for trial in label.trials:
            rewards[trial.chain].append(trial.reward)
    overall = sum(map(sum, rewards.values())) / sum(map(len, rewards.values()))
    base = labels[0].base.chain

    def shrunk(chain: Chain) -> float:
        return (sum(rewards[chain]) + 4 * overall) / (len(rewards[chain]) + 4)

    short = [chain for chain in rewards if chain.depth <= max_depth and chain != base]
    best = sorted(short, key=lambda chain: (-shrunk(chain), chain.depth, chain.layers))[:count]
    return [*best, base] if base.depth <= max_depth else best


def choose_static(
    judge: Judge, questions: Sequence[Question], candidates: Sequence[Chain], template: Template
) -> Chain:
    """The candidate with the highest mean soft reward on labelled training questions."""
    base = Chain.base(judge.num_layers)
    tried = tuple(dict.fromkeys([base, *candidates]))
    with progress_bar() as bar:
        task = bar.add_task("static chain", total=len(questions) * len(tried), unit="chains", note="")
        found: list[Mapping[Chain, Scores]] = []
        for _, scores in score_questions(judge, questions, tried, template, _TOGETHER):
            found.append(scores)
            bar.advance(task, len(scores))
    means = soft_rewards(questions, found)
    return max(candidates, key=means.__getitem__)
