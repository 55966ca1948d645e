"""Results of policies that choose from one menu of chains, at equal depth, from stored scores of many tasks.

``label cross`` has run every chain of the menu on every question, so that any policy that chooses among them is
evaluated without running the backbone again; only its prompt features are computed.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy
from numpy.typing import NDArray
from torch import Tensor

from cola_learn.console import console
from cola_learn.errors import UserError
from cola_learn.evaluate.breakdown import groupings, leads
from cola_learn.evaluate.learners import LEARNERS, Learner
from cola_learn.evaluate.options import EvaluateOptions
from cola_learn.evaluate.policies import Policy, chosen_by
from cola_learn.evaluate.reliability import Reliability, reliability
from cola_learn.evaluate.results import Evaluated, Result, means_of_seeds, seedless
from cola_learn.evaluate.shuffled import dealt
from cola_learn.evaluate.static_front import HeldFront, StaticFront, best_within
from cola_learn.evaluate.utilities import Utilities, controller_utilities, mean_utilities, weighing
from cola_learn.label.score_matrix import Array, ScoreMatrix
from cola_learn.tasks.questions import Template, as_sample
from cola_learn.train.controller import Controller
from cola_learn.train.diagnostics import Choices, collapse

Chosen = NDArray[numpy.int64]

PRICES = (0.0, *numpy.geomspace(1e-3, 10.0, 240).tolist())
_TUNING = 2000  # training questions, a fifth of them at most, on which the price for a depth is found


class Study:
    """The two tables, prompt features, and the policies fitted on the first.

    Args:
        pool, held: training and held-out questions.
        controllers: those compared, by name.
        policies: of the user's own.
        features: prompt features of the questions of a table.
        options: of the evaluation.
        template: how questions are written.

    Attributes:
        front: static chains of the training questions on the held-out ones.
    """

    def __init__(
        self,
        pool: ScoreMatrix,
        held: ScoreMatrix,
        controllers: Mapping[str, Controller],
        policies: Sequence[Policy | Learner],
        features: Callable[[ScoreMatrix, Sequence[int]], list[Tensor]],
        options: EvaluateOptions,
        template: Template = "cloze",
    ) -> None:
        self.pool, self.held, self._template = pool, held, template
        self._controllers, self._policies = controllers, policies
        self._features, self._options = features, options
        draws = numpy.random.default_rng(options.seed)
        self._tuning = draws.permutation(len(pool))[: min(_TUNING, len(pool) // 5)]
        self._means = pool.soft.mean(0)
        self.front = HeldFront(StaticFront.of(pool.depths, self._means), held.chains, held.rewards)

    def evaluated(self) -> Evaluated:
        """Every policy at every depth."""
        held = self.held
        controllers, reliabilities = self._of_controllers()
        found = self._results(controllers)
        order = list(dict.fromkeys(result.policy for result in found))
        found.sort(key=lambda result: order.index(result.policy))  # all depths of a policy together
        groups = groupings(held.questions, leads(held.probabilities[:, 0]), -held.soft.mean(1))
        return Evaluated(held.questions, tuple(found), self.front, groups, reliability=tuple(reliabilities))

    def _results(self, controllers: Sequence[Result]) -> list[Result]:
        held, pool = self.held, self.pool
        rows = [self._chosen("base", None, numpy.zeros(len(held), dtype=int))]
        reference = controllers[0].layers.mean() if controllers else pool.depths[0]
        single = self.static(float(reference))
        single = self.front.front.corners[0] if single is None else single
        rows.append(self._chosen("static", None, numpy.full(len(held), single)))
        for corner in self.front.front.corners:
            if corner not in (0, single):
                depth = held.chains[corner].depth
                rows.append(self._chosen(f"static_{depth}", None, numpy.full(len(held), corner)))
        for share in self._options.depths:
            limit = share * pool.depths[0]
            mixture = self.front.at(limit)
            if mixture is not None:
                layers = numpy.full(len(held), mixture.depth)
                rows.append(Result("static_front", mixture.rewards, layers, share))
            by_task = self._chosen("static_per_task_oracle", share, self._per_task(limit))
            rows.append(replace(by_task, oracle=True))
        for learner in (*(LEARNERS if self._options.learners else ()), *self._policies):
            rows += self._of_learner(learner) if isinstance(learner, Learner) else [self._of_policy(learner)]
        rows += controllers
        rows.append(replace(self._chosen("menu_oracle", None, held.rewards.argmax(1)), oracle=True))
        return rows

    def static(self, limit: float) -> int | None:
        """The chain of no more depth with the highest mean soft reward on training questions."""
        return best_within(self.pool.depths, self._means, limit)

    def _per_task(self, limit: float) -> Chosen:
        """Each task's best static chain at the price that keeps the mean depth of training questions in the limit."""
        means = {task: self.pool.soft[self.pool.tasks == task].mean(0) for task in set(self.pool.tasks.tolist())}

        def utilities(table: ScoreMatrix) -> Utilities:
            stacked = numpy.array([means.get(task, self._means) for task in table.tasks.tolist()])
            return lambda price: stacked + price * self._saved()

        price = self._price(utilities(self.pool), limit)
        return utilities(self.held)(price).argmax(1)

    def _saved(self) -> Array:
        return 1 - self.pool.depths / self.pool.depths[0]

    def _price(self, utilities: Utilities, limit: float) -> float:
        """The lowest price at which the mean depth of the training questions is within the limit; dearer is shorter."""

        def too_deep(price: float) -> bool:
            return bool(self.pool.depths[utilities(price).argmax(1)].mean() > limit + 1e-9)

        place = bisect_left(PRICES, True, key=lambda price: not too_deep(price))
        return PRICES[min(place, len(PRICES) - 1)]

    def _at_depths(self, name: str, tuning: Utilities, utilities: Utilities) -> list[Result]:
        return [
            self._chosen(name, share, utilities(self._price(tuning, share * self.pool.depths[0])).argmax(1))
            for share in self._options.depths
        ]

    def _of_learner(self, learner: Learner) -> list[Result]:
        """What a learner chooses; prices are found on questions that it was not fitted on."""
        layers = next(iter(self._controllers.values())).config.feature_layers if self._controllers else (0, 2)
        prompts, others = self._features(self.pool, layers), self._features(self.held, layers)
        rest = numpy.setdiff1d(numpy.arange(len(self.pool)), self._tuning)
        with console.status(f"fitting {learner.name} ..."):
            tuning = [prompts[row] for row in self._tuning]
            found = learner.fit([prompts[row] for row in rest], self.pool.take(rest), [*tuning, *others])
        scored, held = found[: len(tuning)], found[len(tuning) :]
        saved = learner.scale * self._saved()
        return self._at_depths(learner.name, lambda price: scored + price * saved, lambda price: held + price * saved)

    def _of_policy(self, policy: Policy) -> Result:
        """A policy of the user's own.

        Raises:
            UserError: if it chooses a chain that is not of the menu.
        """
        held, place = self.held, {chain: index for index, chain in enumerate(self.held.chains)}
        samples = [as_sample(question, self._template) for question in held.questions]
        chosen = chosen_by(policy, samples, held.chains[0].num_layers)
        for question, chain in zip(held.questions, chosen, strict=True):
            if chain not in place:
                raise UserError(
                    f"policy {policy.name}, question {question.key}: {chain} is no chain of the menu that --held has "
                    "scores of; leave --held out to run it"
                )
        return self._chosen(policy.name, None, numpy.array([place[chain] for chain in chosen]))

    def _of_controllers(self) -> tuple[list[Result], list[Reliability]]:
        """Every controller at its own price and at every depth, beside its choices dealt to other questions; and those
        that differ in a number at the end of their names (seeds) together: their mean, and as an ensemble that chooses
        by their mean utility. With them, how reliable the gains are that controllers predict."""
        rows: list[Result] = []
        reliabilities: list[Reliability] = []
        known: dict[str, tuple[Utilities, Utilities]] = {}
        for name, controller in self._controllers.items():
            layers = controller.config.feature_layers
            prompts, others = self._features(self.pool, layers), self._features(self.held, layers)
            weigh = weighing(controller, others)
            tuning = controller_utilities(controller, weighing(controller, [prompts[row] for row in self._tuning]))
            utilities = controller_utilities(controller, weigh)
            known[name] = tuning, utilities
            if controller.rule.decides == "gain":
                reliabilities.append(reliability(name, weigh(None).double().numpy(), self.held.soft))
            priced = controller.rule.priced
            prices: dict[float | None, float] = {None: controller.rule.price if priced else 0.0}
            prices |= {share: self._price(tuning, share * self.pool.depths[0]) for share in self._options.depths}
            for share, price in prices.items():
                chosen = utilities(price).argmax(1)
                anywhere, in_task = (dealt(self.held, chosen, within) for within in (False, True))
                own = replace(self._chosen(name, share, chosen), price=price if priced else None)
                rows.append(replace(own, shuffled=anywhere, shuffled_in_task=in_task))
        rows += means_of_seeds(rows, self._controllers)
        for name in dict.fromkeys(map(seedless, known)):
            members = [both for own, both in known.items() if seedless(own) == name]
            if len(members) > 1:
                tuning, utilities = (mean_utilities([member[part] for member in members]) for part in (0, 1))
                rows += self._at_depths(f"{name}, ensemble of {len(members)}", tuning, utilities)
        return rows, reliabilities

    def _chosen(self, name: str, share: float | None, chosen: Chosen) -> Result:
        held = self.held
        gains = held.soft - held.soft[:, :1]
        rows = numpy.arange(len(held))
        return Result(
            name,
            self._rewards(chosen),
            held.depths[chosen],
            share,
            chains=tuple(held.chains[chain] for chain in chosen),
            answers=tuple(held.scores[rows, chosen].argmax(1).tolist()),
            collapse=collapse(Choices(chosen, gains, held.depths / held.depths[0], held.tasks)),
        )

    def _rewards(self, chosen: Chosen) -> Array:
        return self.held.rewards[numpy.arange(len(self.held)), chosen]
