"""What policies choose: at their own price, and from a menu of chains at equal mean depth."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy
from numpy.typing import NDArray
from torch import Tensor

from cola_learn.chains import Chain
from cola_learn.console import console
from cola_learn.errors import UserError
from cola_learn.evaluate.breakdown import Reliability, reliability
from cola_learn.evaluate.held_table import Choice
from cola_learn.evaluate.policies import Learner, Policy, chosen_by
from cola_learn.evaluate.results import seedless
from cola_learn.evaluate.static_front import StaticChains
from cola_learn.label.score_matrix import Array, ScoreMatrix
from cola_learn.tasks.questions import Question, Template, as_sample
from cola_learn.train.controller import Controller

Utilities = Callable[[float], Array]
"""What a policy thinks of every (question, chain) at a price of depth, ``[Q, C]``; it takes the largest."""
Chosen = Callable[[float], NDArray[numpy.int64]]
"""The chain of the menu that a policy takes for each question at a price of depth, ``[Q]``."""
Features = Callable[[Sequence[Question], Sequence[int]], list[Tensor]]
"""What a controller reads of questions' prompts after some numbers of layers, ``[T, F, H]`` each."""

PRICES = (0.0, *numpy.geomspace(1e-3, 10.0, 240).tolist(), *numpy.geomspace(10.0, 100.0, 61)[1:].tolist())
_TUNING = 2000  # training questions, a fifth of them at most, on which the price for a depth is found


def static_choices(statics: StaticChains, depth: float, count: int) -> list[Choice]:
    """For so many questions: the best static chain of no more than this mean depth, and the corners of the front."""
    single = statics.chain_at(depth)
    fixed = [Choice("static", (single,) * count)]
    for corner in statics.corners:
        if corner != single and not corner.is_base:
            fixed.append(Choice(f"static_{corner.depth}", (corner,) * count))
    return fixed


class DepthSweep:
    """Policies that choose among the chains of a menu, each set to several mean depths by its price of depth, which is
    found on training questions.

    Args:
        pool: scores of training questions.
        held: held-out questions.
        features: of prompts.
        depths: mean depths, as shares of the base chain's.
        seed: of the draw of questions on which prices are found.
    """

    def __init__(
        self, pool: ScoreMatrix, held: Sequence[Question], features: Features, depths: Sequence[float], seed: int
    ) -> None:
        self._pool, self._held, self._features, self._depths = pool, held, features, depths
        self._tuning = numpy.random.default_rng(seed).permutation(len(pool))[: min(_TUNING, len(pool) // 5)]
        self._saved = 1 - pool.depths / pool.depths[0]

    def per_task(self) -> list[Choice]:
        """Each task's best static chain, which is told the task's name."""
        pool, overall = self._pool, self._pool.soft.mean(0)
        means = {task: pool.soft[pool.tasks == task].mean(0) for task in set(pool.tasks.tolist())}

        def utilities(questions: Sequence[Question]) -> Utilities:
            stacked = numpy.array([means.get(question.task, overall) for question in questions])
            return lambda price: stacked + price * self._saved

        tuning, held = _taken(utilities(pool.questions)), _taken(utilities(self._held))
        found = self._at_depths("static_per_task_oracle", tuning, held)
        return [replace(choice, oracle=True) for choice in found]

    def of_learner(self, learner: Learner, layers: Sequence[int]) -> list[Choice]:
        """What a learner chooses; prices are found on questions that it was not fitted on."""
        prompts, others = self._features(self._pool.questions, layers), self._features(self._held, layers)
        rest = numpy.setdiff1d(numpy.arange(len(self._pool)), self._tuning)
        with console.status(f"fitting {learner.name} ..."):
            tuning = [prompts[row] for row in self._tuning]
            found = learner.fit([prompts[row] for row in rest], self._pool.take(rest), [*tuning, *others])
        scored, held, saved = found[: len(tuning)], found[len(tuning) :], learner.scale * self._saved
        both = _taken(lambda price: scored + price * saved), _taken(lambda price: held + price * saved)
        return self._at_depths(learner.name, *both)

    def of_policy(self, policy: Policy, template: Template) -> list[Choice]:
        """What a policy of one's own chooses of the menu, at every depth if it takes a price.

        Raises:
            UserError: if it chooses a chain that is not of the menu.
        """
        places = {chain: place for place, chain in enumerate(self._pool.chains)}

        def chosen(questions: Sequence[Question]) -> Chosen:
            samples = [as_sample(question, template) for question in questions]

            @cache
            def at(price: float) -> NDArray[numpy.int64]:
                found = chosen_by(policy, samples, self._pool.chains[0].num_layers, price)
                for sample, chain in zip(samples, found, strict=True):
                    if chain not in places:
                        raise UserError(
                            f"policy {policy.name}, question {sample.key}: {chain} is no chain of the menu that --held "
                            "has scores of; leave --held out to run it"
                        )
                return numpy.array([places[chain] for chain in found])

            return at

        held = chosen(self._held)
        if not policy.priced:
            return [Choice(policy.name, self._chains(held(0.0)))]
        tuning = chosen([self._pool.questions[row] for row in self._tuning])
        return self._at_depths(policy.name, tuning, held, priced=True)

    def of_controllers(
        self, controllers: Mapping[str, Controller], soft: Array
    ) -> tuple[list[Choice], list[Reliability]]:
        """What controllers choose at their own price and at every depth; those that differ in a number at the end of
        their names (seeds) also as an ensemble that chooses by their mean utility. With them, how reliable the gains
        are that they predict, given the soft rewards ``[Q, C]`` that came of the held-out questions."""
        choices: list[Choice] = []
        reliabilities: list[Reliability] = []
        known: dict[str, tuple[Utilities, Utilities]] = {}
        for name, controller in controllers.items():
            layers = controller.config.feature_layers
            prompts, others = self._features(self._pool.questions, layers), self._features(self._held, layers)
            tuning, _ = _utilities(controller, [prompts[row] for row in self._tuning])
            utilities, weigh = _utilities(controller, others)
            known[name] = tuning, utilities
            if controller.rule.decides == "gain":
                reliabilities.append(reliability(name, weigh(None).double().numpy(), soft))
            price = controller.rule.own_price
            own = Choice(name, self._chains(_taken(utilities)(price or 0.0)), price=price)
            at_depths = self._at_depths(name, _taken(tuning), _taken(utilities), controller.rule.priced)
            for choice in (own, *at_depths):
                choices.append(replace(choice, dealt=True))
        for name in dict.fromkeys(map(seedless, known)):
            members = [both for own_name, both in known.items() if seedless(own_name) == name]
            if len(members) > 1:
                tuning, utilities = (_mean([member[part] for member in members]) for part in (0, 1))
                both = _taken(tuning), _taken(utilities)
                choices += self._at_depths(f"{name}, ensemble of {len(members)}", *both)
        return choices, reliabilities

    def _at_depths(self, name: str, tuning: Chosen, held: Chosen, priced: bool = False) -> list[Choice]:
        prices = [self._price(tuning, share * self._pool.depths[0]) for share in self._depths]
        return [
            Choice(name, self._chains(held(price)), share, price if priced else None)
            for share, price in zip(self._depths, prices, strict=True)
        ]

    def _chains(self, chosen: NDArray[numpy.int64]) -> tuple[Chain, ...]:
        return tuple(self._pool.chains[index] for index in chosen)

    def _price(self, chosen: Chosen, limit: float) -> float:
        """The lowest price at which the mean depth of the training questions is within the limit; dearer is shorter."""

        def too_deep(price: float) -> bool:
            return bool(self._pool.depths[chosen(price)].mean() > limit + 1e-9)

        place = bisect_left(PRICES, True, key=lambda price: not too_deep(price))
        return PRICES[min(place, len(PRICES) - 1)]


def _taken(utilities: Utilities) -> Chosen:
    return lambda price: utilities(price).argmax(1)


def _mean(members: Sequence[Utilities]) -> Utilities:
    return lambda price: numpy.mean([utilities(price) for utilities in members], axis=0)


def _utilities(controller: Controller, prompts: Sequence[Tensor]) -> tuple[Utilities, Callable[[float | None], Tensor]]:
    """A controller's utilities, and the ``weigh_all`` that they are from, which runs once for each price; where values
    decide, once for all.

    One that was trained without a price knows none: a hundred times what it saves is added to the log-probabilities.
    """
    weigh = cache(lambda price: controller.weigh_all(prompts, price))
    if not controller.rule.priced:
        saved = numpy.array([1 - chain.depth / chain.num_layers for chain in controller.menu])
        return lambda price: weigh(None).double().numpy() + 100 * price * saved, weigh
    gains = controller.rule.decides == "gain"
    return lambda price: controller.utilities(weigh(None if gains else price), price).double().numpy(), weigh
