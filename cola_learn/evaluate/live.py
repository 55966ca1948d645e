"""Results of policies on held-out questions that the backbone runs here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy
from scipy.special import softmax

from cola_learn.backbone.backbone import Backbone
from cola_learn.chains import Chain
from cola_learn.evaluate.breakdown import groupings, leads
from cola_learn.evaluate.costs import policy_costs
from cola_learn.evaluate.held_out import HeldOut
from cola_learn.evaluate.options import EvaluateOptions
from cola_learn.evaluate.policies import Policy, chosen_by, controller_beams, shuffled
from cola_learn.evaluate.results import Evaluated, Result, means_of_seeds
from cola_learn.evaluate.searches import difficulty, luck_of, search_oracle, searched, searches_of
from cola_learn.evaluate.static_chains import static_chains
from cola_learn.label.score_matrix import Array
from cola_learn.label.store import LabelStore
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.judges import make_judge, score_all
from cola_learn.rewards.scores import Scores
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.questions import Question, as_sample
from cola_learn.train.controller import Controller
from cola_learn.train.features import prompt_features

_BEAMS = 5
_DEALS = 4  # other questions whose chain each question gets
_ONE_QUESTION_GIB = 0.25  # what a controller has read of a prompt is kept for its chain


@dataclass(frozen=True, eq=False)
class _Scored:
    """What chains make of Q questions."""

    questions: tuple[Question, ...]
    scores: Sequence[Mapping[Chain, Scores]]

    def rewards(self, chains: Sequence[Chain]) -> Array:
        """Of one chain for each question, ``[Q]``."""
        rows = zip(self.questions, chains, self.scores, strict=True)
        return numpy.array([scores[chain].reward(question.gold) for question, chain, scores in rows])

    def mean_rewards(self, several: Sequence[Sequence[Chain]] | None) -> Array | None:
        """Mean of the rewards of several choices, ``[Q]``."""
        return None if several is None else numpy.mean([self.rewards(chains) for chains in several], axis=0)

    def leads(self, chain: Chain, temperatures: Mapping[str, float]) -> Array | None:
        """Probability of the best option less that of the second, ``[Q]``; None where there are no options."""
        if any(question.open for question in self.questions):
            return None
        rows = zip(self.questions, self.scores, strict=True)
        return numpy.array(
            [
                leads(softmax(numpy.array(scores[chain].values) / temperatures.get(question.task, 1.0)))
                for question, scores in rows
            ]
        )

    def result(self, name: str, chains: Sequence[Chain]) -> Result:
        return Result(
            name,
            self.rewards(chains),
            numpy.array([chain.depth for chain in chains], dtype=float),
            chains=tuple(chains),
            answers=tuple(scores[chain].choice for chain, scores in zip(chains, self.scores, strict=True)),
        )


def evaluate_live(
    backbone: Backbone,
    stores: Sequence[LabelStore],
    held: HeldOut,
    controllers: Mapping[str, Controller],
    policies: Sequence[Policy],
    options: EvaluateOptions,
) -> Evaluated:
    """Run every policy on every question.

    Args:
        backbone: the frozen model.
        stores: labels, of training questions.
        held: the questions.
        controllers: those compared, by name.
        policies: of the user's own.
        options: of the evaluation.
    """
    questions, template = held.questions, stores[0].manifest.template
    judge_of = _judges(backbone, held, options.cache_gib)
    samples = [as_sample(question, template) for question in questions]
    features = cache(lambda layers: prompt_features(backbone, [sample.prompt for sample in samples], layers))
    beams = {
        name: controller_beams(controller, features(controller.config.feature_layers), _BEAMS)
        for name, controller in controllers.items()
    }
    chosen = {name: [chains[0] for chains in own] for name, own in beams.items()}
    chosen |= {policy.name: chosen_by(policy, samples, backbone.num_layers) for policy in policies}
    base = Chain.base(backbone.num_layers)
    depths = {name: float(numpy.mean([chain.depth for chain in own])) for name, own in chosen.items()}
    depths = depths or {"base": float(base.depth)}
    statics = static_chains(
        judge_of, stores, list(depths.values()), options.static_candidates, options.static_questions
    )
    top = {
        "base": [base] * len(questions),
        "static": [statics.chain_at(next(iter(depths.values())))] * len(questions),
        **chosen,
    }
    fixed = {
        f"static_{one.depth}": [one] * len(questions) for one in statics.corners if one not in (base, top["static"][0])
    }
    tasks = [question.task for question in questions]
    dealt = {name: _dealt(chosen[name], None, options.seed) for name in controllers}
    dealt_in_task = {name: _dealt(chosen[name], tasks, options.seed) for name in controllers if len(set(tasks)) > 1}
    deals = [deal for each in (dealt, dealt_in_task) for own in each.values() for deal in own]
    wanted: dict[str, list[Chain]] = {}
    for index, question in enumerate(questions):
        own = [*statics.corners, *(chains[index] for chains in [*top.values(), *deals])]
        own += [chain for some in beams.values() for chain in some[index]]
        wanted[question.key] = list(dict.fromkeys(own))
    final = _judges(backbone, held, options.cache_gib, final=True)
    found = score_all(final, questions, lambda one: wanted[one.key], template, options.trees, "policies")
    scored = _Scored(questions, found)
    results = [
        replace(
            scored.result(name, chains),
            price=_price(controllers.get(name)),
            shuffled=scored.mean_rewards(dealt.get(name)),
            shuffled_in_task=scored.mean_rewards(dealt_in_task.get(name)),
        )
        for name, chains in (top | fixed).items()
    ]
    results += means_of_seeds(results, controllers)
    results += [_best_of_beams(f"{name}_top{_BEAMS}_oracle", own, scored) for name, own in beams.items()]
    labels = searched(backbone, judge_of, stores, held, options)
    results.append(search_oracle(questions, labels))
    alone = _judges(backbone, held, _ONE_QUESTION_GIB, final=True)
    return Evaluated(
        questions,
        tuple(results),
        statics.on(lambda chain: scored.rewards([chain] * len(questions))),
        groupings(questions, scored.leads(base, statics.temperatures), difficulty(questions, labels)),
        policy_costs(alone, questions, template, top, controllers, options.cost_questions),
        luck_of(labels),
        setting={
            "tasks": held.described,
            "metric": ", ".join(dict.fromkeys(_named(held.scorings[task]) for task, _ in held.names)),
            "search budget": searches_of(options, stores),
        },
    )


def _named(scoring: Scoring) -> str:
    if scoring.reward != "choices":
        return "answers written greedily and graded"
    return f"{scoring.metric}, {scoring.template} scoring"


def _price(controller: Controller | None) -> float | None:
    return controller.rule.price if controller and controller.rule.priced else None


def _judges(
    backbone: Backbone, held: HeldOut, cache_gib: float | None, final: bool = False
) -> Callable[[Question], ModelJudge]:
    """The judge of each question, one for all that are scored alike. Those of searches only verify answers to open
    questions; ``final`` ones write them."""

    @cache
    def judge(scoring: Scoring) -> ModelJudge:
        written = final and scoring.reward == "verify"
        return make_judge(backbone, replace(scoring, reward="generate") if written else scoring, cache_gib)

    return lambda question: judge(held.scoring(question))


def _dealt(chains: Sequence[Chain], groups: Sequence[str] | None, seed: int) -> list[list[Chain]]:
    return [shuffled(chains, seed + deal, groups) for deal in range(_DEALS)]


def _best_of_beams(name: str, beams: Sequence[Sequence[Chain]], scored: _Scored) -> Result:
    """Of the chains that a controller finds most probable, the first that is right: the gold answer chooses."""
    best = [
        max(chains, key=lambda chain: scores[chain].reward(question.gold))
        for question, chains, scores in zip(scored.questions, beams, scored.scores, strict=True)
    ]
    return replace(scored.result(name, best), oracle=True)
