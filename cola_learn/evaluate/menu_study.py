"""Policies over one menu of chains, compared at equal depth on held-out questions of many tasks, from stored scores.

``label cross`` has run every chain of the menu on every question, so that any policy that chooses among them is
evaluated without running the backbone again; only its prompt features are computed.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from cola_learn.backbone.backbone import Backbone
from cola_learn.console import console
from cola_learn.evaluate import multichain
from cola_learn.evaluate.breakdown import differences_by_group, groupings
from cola_learn.evaluate.learners import menu_classifier, menu_regressor, pooled, probe
from cola_learn.evaluate.menu_report import PolicyRow
from cola_learn.evaluate.options import MenuEvaluateOptions
from cola_learn.evaluate.reliability import Reliability, reliability
from cola_learn.evaluate.routers import LayerRouters, SegmentPredictor, fit_router, route
from cola_learn.evaluate.shuffled import dealt
from cola_learn.evaluate.static_front import StaticFront
from cola_learn.evaluate.statistics import p_value
from cola_learn.evaluate.utilities import Utilities, controller_utilities, mean_utilities, weighing
from cola_learn.intervals import paired_difference
from cola_learn.label.score_matrix import Array, ScoreMatrix
from cola_learn.train.controller import Controller
from cola_learn.train.diagnostics import Choices, collapse

Chosen = NDArray[numpy.int64]

PRICES = (0.0, *numpy.geomspace(1e-3, 10.0, 240).tolist())
_TUNING = 2000  # training questions, a fifth of them at most, on which the price for a depth is found


class Study:
    """The two tables, prompt features, and the policies fitted on the first.

    Attributes:
        pool, held: training and held-out questions.
        controllers: those compared, by name.
        answers: of every policy so far, as ``write_answers`` takes them.
        reliability: of the gains that controllers predict.
        seeds: names of the controllers that also have a row with their mean.
    """

    def __init__(
        self,
        pool: ScoreMatrix,
        held: ScoreMatrix,
        controllers: Mapping[str, Controller],
        features: Callable[[ScoreMatrix, Sequence[int]], list[Tensor]],
        backbone: Callable[[], Backbone],
        options: MenuEvaluateOptions,
    ) -> None:
        self.pool, self.held = pool, held
        self.controllers, self._features, self._backbone, self._options = controllers, features, backbone, options
        draws = numpy.random.default_rng(options.seed)
        self._tuning = draws.permutation(len(pool))[: min(_TUNING, len(pool) // 5)]
        self._front = StaticFront.of(pool)
        self._groups = groupings(held)
        self.answers: list[dict[str, Any]] = []
        self.reliability: list[Reliability] = []
        self.seeds: list[str] = []

    def rows(self) -> list[PolicyRow]:
        """Every policy at every depth."""
        held, pool = self.held, self.pool
        rows = [self._row("base", None, held.rewards[:, 0], held.depths[:1].repeat(len(held)))]
        for share in self._options.depths:
            limit = share * pool.depths[0]
            mixed = self._front.at(limit)
            if mixed is not None:
                layers = numpy.full(len(held), float(held.depths @ mixed))
                rows.append(self._row("static", share, held.rewards @ mixed, layers))
            rows.append(self._chosen("static_per_task_oracle", share, self._per_task(limit)))
            voters = multichain.choose_voters(pool, 5, limit)
            if len(voters) > 1:
                rows.append(self._row("vote", share, *multichain.vote(held, voters)))
        best = multichain.choose_voters(pool, 5)
        rows.append(self._row("vote", None, *multichain.vote(held, best)))
        for share in self._options.depths:
            first = self.static(min(0.9, share) * pool.depths[0])
            if first is not None:
                order = [first, *(voter for voter in best if voter != first)]
                limit = multichain.cascade_limit(pool, order, share * pool.depths[0])
                rows.append(self._row("cascade", share, *multichain.cascade(held, order, limit)))
        if self._options.learners:
            for name, tuning, utilities in self._learners():
                rows += self._at_depths(name, tuning, utilities)
        rows += self._of_controllers()
        rows.append(self._row("menu_oracle", None, held.rewards.max(1), held.depths[:1].repeat(len(held))))
        return rows

    def static(self, limit: float) -> int | None:
        """The chain of no more depth with the highest mean soft reward on training questions."""
        short = numpy.where(self.pool.depths <= limit + 1e-9, self.pool.soft.mean(0), -numpy.inf)
        return int(short.argmax()) if numpy.isfinite(short).any() else None

    def _per_task(self, limit: float) -> Chosen:
        """Each task's best static chain at the price that keeps the mean depth of training questions in the limit."""
        means = {task: self.pool.soft[self.pool.tasks == task].mean(0) for task in set(self.pool.tasks.tolist())}

        def utilities(table: ScoreMatrix) -> Utilities:
            stacked = numpy.array([means.get(task, self.pool.soft.mean(0)) for task in table.tasks.tolist()])
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

    def _at_depths(self, name: str, tuning: Utilities, utilities: Utilities) -> list[PolicyRow]:
        return [
            self._chosen(name, share, utilities(self._price(tuning, share * self.pool.depths[0])).argmax(1))
            for share in self._options.depths
        ]

    def _learners(self) -> list[tuple[str, Utilities, Utilities]]:
        layers = next(iter(self.controllers.values())).config.feature_layers if self.controllers else (0, 2)
        prompts, others = self._features(self.pool, layers), self._features(self.held, layers)
        vectors, held = pooled(prompts), pooled(others)
        # Prices are found on questions that were not fitted on.
        rest = numpy.setdiff1d(numpy.arange(len(self.pool)), self._tuning)
        found: list[tuple[str, Array, float]] = []
        both = numpy.concatenate([vectors[self._tuning], held])
        table = self.pool.take(rest)
        with console.status("fitting plain learners ..."):
            found.append(("ridge", menu_regressor(vectors[rest], table, both), 1.0))
            found.append(("logistic", menu_classifier(vectors[rest], table, both), 50.0))
        best = [table.chains[index] for index in table.soft.argmax(1)]
        size, depth = prompts[0].shape[1] * prompts[0].shape[2], table.chains[0].num_layers
        for name, kind in (("drllm", LayerRouters), ("polar", SegmentPredictor)):
            with console.status(f"training the routers of {name} ..."):
                torch.manual_seed(self._options.seed)
                router = kind(size, depth)
                fit_router(router, [prompts[row] for row in rest], best, seed=self._options.seed)
                scores = route(router, [*(prompts[row] for row in self._tuning), *others], table.chains)
                found.append((name, scores.double().numpy(), 500.0))
        count = len(self._tuning)
        return [
            (name, self._additive(scores[:count], scale), self._additive(scores[count:], scale))
            for name, scores, scale in found
        ]

    def _additive(self, scores: Array, scale: float = 1.0) -> Utilities:
        return lambda price: scores + scale * price * self._saved()

    def probe_row(self, layers: Sequence[int]) -> PolicyRow:
        """What answers can be read off the controller's own input: no chain is run at all."""
        vectors = pooled(self._features(self.pool, layers))
        answers = probe(vectors, self.pool, pooled(self._features(self.held, layers)), self.held, self._backbone())
        return self._row("probe", None, (answers == self.held.gold).astype(float), numpy.zeros(len(self.held)))

    def _of_controllers(self) -> list[PolicyRow]:
        """Every controller, with shuffled prompts, and those that differ in a number at the end of their names (seeds)
        together: their mean, and as an ensemble that chooses by their mean utility."""
        rows: list[PolicyRow] = []
        groups: dict[str, dict[str, tuple[Utilities, Utilities]]] = {}
        for name, controller in self.controllers.items():
            layers = controller.config.feature_layers
            prompts, others = self._features(self.pool, layers), self._features(self.held, layers)
            weigh = weighing(controller, others)
            tuning = controller_utilities(controller, weighing(controller, [prompts[row] for row in self._tuning]))
            utilities = controller_utilities(controller, weigh)
            if controller.rule.decides == "gain":
                self.reliability.append(reliability(name, weigh(None).double().numpy(), self.held.soft))
            groups.setdefault(re.sub(r"-\d+$", "", name), {})[name] = (tuning, utilities)
            for share in self._options.depths:
                price = self._price(tuning, share * self.pool.depths[0])
                chosen = utilities(price).argmax(1)
                told = price if controller.rule.priced else None
                rows.append(self._beside_shuffled(replace(self._chosen(name, share, chosen), price=told), [chosen]))
        for name, members in groups.items():
            if len(members) > 1:
                self.seeds += members
                rows += self._of_seeds(name, list(members.values()))
        if self._options.learners and self.controllers:
            rows.append(self.probe_row(next(iter(self.controllers.values())).config.feature_layers))
        return rows

    def _of_seeds(self, name: str, members: Sequence[tuple[Utilities, Utilities]]) -> list[PolicyRow]:
        rows = []
        for share in self._options.depths:
            limit = share * self.pool.depths[0]
            chosen = [utilities(self._price(tuning, limit)).argmax(1) for tuning, utilities in members]
            rewards = numpy.mean([self._rewards(one) for one in chosen], axis=0)
            layers = numpy.mean([self.held.depths[one] for one in chosen], axis=0)
            row = self._row(f"{name}, mean of {len(members)}", share, rewards, layers)
            rows.append(self._beside_shuffled(row, chosen))
        tuning, utilities = (mean_utilities([member[part] for member in members]) for part in (0, 1))
        return rows + self._at_depths(f"{name}, ensemble of {len(members)}", tuning, utilities)

    def _beside_shuffled(self, row: PolicyRow, chosen: Sequence[Chosen]) -> PolicyRow:
        """With the differences to the same choices dealt to other questions, of all tasks and of the same task."""
        mine = numpy.mean([self._rewards(one) for one in chosen], axis=0)
        anywhere, in_task = (dealt(self.held, chosen, within) for within in (False, True))
        seed = self._options.seed
        return replace(
            row,
            to_shuffled=paired_difference(list(mine), list(anywhere), seed),
            p_shuffled=p_value(mine, anywhere),
            to_shuffled_in_task=paired_difference(list(mine), list(in_task), seed),
            p_shuffled_in_task=p_value(mine, in_task),
        )

    def _chosen(self, name: str, share: float | None, chosen: Chosen) -> PolicyRow:
        held = self.held
        gains = held.soft - held.soft[:, :1]
        found = collapse(Choices(chosen, gains, held.depths / held.depths[0], held.tasks))
        return self._row(name, share, self._rewards(chosen), held.depths[chosen], found)

    def _mixture(self, chances: Array) -> str:
        """Such as ``60% 0-17 20-29, 40% 0-29``."""
        return ", ".join(f"{chances[chain]:.0%} {self.held.chains[chain]}" for chain in numpy.flatnonzero(chances))

    def _rewards(self, chosen: Chosen) -> Array:
        return self.held.rewards[numpy.arange(len(self.held)), chosen]

    def _row(
        self, name: str, share: float | None, rewards: Array, layers: Array, found: dict[str, float] | None = None
    ) -> PolicyRow:
        held, seed = self.held, self._options.seed
        base = held.rewards[:, 0]
        label = name if share is None else f"{name} at {share:.0%}"
        self.answers += [
            {
                "policy": label,
                "question": question.key,
                "digest": question.digest,
                "depth": float(depth),
                "reward": float(reward),
            }
            for question, depth, reward in zip(held.questions, layers, rewards, strict=True)
        ]
        mixed = self._front.at(float(layers.mean()))
        static = None if mixed is None else held.rewards @ mixed
        return PolicyRow(
            policy=name,
            target=share,
            accuracy=float(rewards.mean()),
            depth=float(layers.mean()),
            to_base=paired_difference(list(rewards), list(base), seed),
            p_base=p_value(rewards, base),
            to_static=None if static is None else paired_difference(list(rewards), list(static), seed),
            p_static=None if static is None else p_value(rewards, static),
            static="" if mixed is None else self._mixture(mixed),
            by_group=differences_by_group(rewards - base, self._groups),
            collapse=found or {},
        )
