"""Every policy on held-out questions: through a menu whose scores are stored, or run here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy
from scipy.special import softmax

from cola_learn.backbone.backbone import Backbone
from cola_learn.chains import Chain
from cola_learn.evaluate.breakdown import groupings, leads
from cola_learn.evaluate.choices import DepthSweep, Features, static_choices
from cola_learn.evaluate.costs import policy_costs
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.held_table import Choice, HeldTable, chains_to_run
from cola_learn.evaluate.inputs import HeldOut
from cola_learn.evaluate.policies import LEARNERS, Learner, Policy, chosen_by, controller_beams
from cola_learn.evaluate.results import Evaluated, Result, means_of_seeds
from cola_learn.evaluate.searches import difficulty, luck_of, run_searches, search_oracle, searches_of
from cola_learn.evaluate.static_front import StaticChains, static_chains
from cola_learn.label.score_matrix import Array, ScoreMatrix
from cola_learn.label.store import LabelStore
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.judges import make_judge, score_all
from cola_learn.rewards.reward import reward_of
from cola_learn.rewards.scores import Scores
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.questions import Question, Template, as_sample
from cola_learn.train.controller import Controller
from cola_learn.train.features import prompt_features

_BEAMS = 5
_ONE_QUESTION_GIB = 0.25  # what a controller has read of a prompt is kept for its chain


def evaluate_stored(
    pool: ScoreMatrix,
    held: ScoreMatrix,
    controllers: Mapping[str, Controller],
    policies: Sequence[Policy | Learner],
    features: Features,
    options: EvaluateOptions,
    template: Template = "cloze",
) -> Evaluated:
    """Every policy on questions through all chains of a menu, from their stored scores, at equal depth.

    Args:
        pool, held: training and held-out questions.
        controllers: those compared, by name; they choose among the menu's chains.
        policies: of the user's own.
        features: of prompts.
        options: of the evaluation.
        template: how questions are written.

    Raises:
        UserError: if a policy chooses a chain that is not of the menu.
    """
    table, statics = HeldTable.of_menu(held), StaticChains.of_menu(pool)
    front = statics.on(lambda chain: table.rewards[:, table.places[chain]])
    gains_front = statics.on(lambda chain: table.gains[:, table.places[chain]]) if table.measured else None
    sweep = DepthSweep(pool, held.questions, features, options.depths, options.seed)
    own, reliabilities = sweep.of_controllers(controllers, held.soft)
    choices = static_choices(statics, own[0].depth if own else float(pool.depths[0]), len(held)) + sweep.per_task()
    layers = next(iter(controllers.values())).config.feature_layers if controllers else (0, 2)
    for learner in (*(LEARNERS if options.learners else ()), *policies):
        if isinstance(learner, Learner):
            choices += sweep.of_learner(learner, layers)
        else:
            choices += sweep.of_policy(learner, template)
    best = held.rewards.argmax(1)
    oracle = Choice("menu_oracle", tuple(held.chains[chain] for chain in best), oracle=True)
    results = [
        table.result(choice, options.seed) for choice in (_base(held.chains[0], len(held)), *choices, *own, oracle)
    ]
    for share in options.depths:
        if mixture := front.at(share * pool.depths[0]):
            least = gains_front and gains_front.at(share * pool.depths[0])
            depths, gains = numpy.full(len(held), mixture.depth), least.rewards if least else None
            results.append(Result("static_front", mixture.rewards, depths, share, gains=gains))
    results += means_of_seeds(results, controllers)
    sure = None if table.measured else leads(held.probabilities[:, 0])
    groups = groupings(held.questions, sure, -held.soft.mean(1))
    return Evaluated(
        held.questions, _in_order(results), front, groups, reliability=tuple(reliabilities), gains_front=gains_front
    )


def _base(base: Chain, count: int) -> Choice:
    return Choice("base", (base,) * count)


def _of_policy(policy: Policy, questions: Sequence[Question], template: Template, num_layers: int) -> Choice:
    samples = [as_sample(question, template) for question in questions]
    return Choice(policy.name, tuple(chosen_by(policy, samples, num_layers)))


def _in_order(results: Sequence[Result]) -> tuple[Result, ...]:
    """All depths of a policy together."""
    order = list(dict.fromkeys(result.policy for result in results))
    return tuple(sorted(results, key=lambda result: order.index(result.policy)))


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
    questions, template = held.questions, stores[0].manifest.scoring.template
    judge_of = _judges(backbone, held, options.cache_gib)
    prompts = [as_sample(question, template).prompt for question in questions]
    features = cache(lambda layers: prompt_features(backbone, prompts, layers))
    base = _base(Chain.base(backbone.num_layers), len(questions))
    beams = {
        name: controller_beams(controller, features(controller.config.feature_layers), _BEAMS)
        for name, controller in controllers.items()
    }
    own = [
        Choice(name, tuple(chains[0] for chains in each), price=controllers[name].rule.own_price, dealt=True)
        for name, each in beams.items()
    ]
    own += [_of_policy(policy, questions, template, backbone.num_layers) for policy in policies]
    depths = [choice.depth for choice in own or [base]]
    statics = static_chains(judge_of, stores, depths, options.static_candidates, options.static_questions)
    single, *corners = static_choices(statics, depths[0], len(questions))
    choices = [base, single, *corners, *own]
    wanted = chains_to_run(choices, questions, options.seed)
    for row, question in enumerate(questions):
        more = [*statics.corners, *(chain for each in beams.values() for chain in each[row])]
        wanted[question.key] = list(dict.fromkeys((*wanted[question.key], *more)))
    final = _judges(backbone, held, options.cache_gib, final=True)
    found = score_all(final, questions, lambda one: wanted[one.key], template, options.trees, "policies")
    reward = reward_of(stores[0].manifest.scoring.reward)
    table = HeldTable.of_scores(questions, found, reward.continuous)
    results = [table.result(choice, options.seed) for choice in choices]
    results += means_of_seeds(results, controllers)
    results += [table.result(_best_of_beams(f"{name}_top{_BEAMS}_oracle", each, table)) for name, each in beams.items()]
    labels = run_searches(backbone, judge_of, stores, held, options)
    results.append(search_oracle(questions, labels, table.measured))
    alone = _judges(backbone, held, _ONE_QUESTION_GIB, final=True)
    timed = {choice.policy: choice.chains for choice in (base, single, *own)}
    return Evaluated(
        questions,
        tuple(results),
        statics.on(lambda chain: table.rewards[:, table.places[chain]]),
        groupings(questions, _leads(questions, found, statics.temperatures), difficulty(questions, labels)),
        policy_costs(alone, questions, template, timed, controllers, options.cost_questions),
        luck_of(labels),
        setting={
            "tasks": held.described,
            "metric": ", ".join(dict.fromkeys(_named(held.scorings[task]) for task, _ in held.names)),
            "search budget": searches_of(options, stores),
            "measure": reward.measure,
        },
        gains_front=statics.on(lambda chain: table.gains[:, table.places[chain]]) if table.measured else None,
    )


def _leads(
    questions: Sequence[Question], found: Sequence[Mapping[Chain, Scores]], temperatures: Mapping[str, float]
) -> Array | None:
    """How sure the base chain is of each question, ``[Q]``; None where there are no options."""
    if any(question.kind != "choices" for question in questions):
        return None
    rows = []
    for question, scores in zip(questions, found, strict=True):
        base = next(score for chain, score in scores.items() if chain.is_base)
        rows.append(float(leads(softmax(numpy.array(base.values) / temperatures.get(question.task, 1.0)))))
    return numpy.array(rows)


def _named(scoring: Scoring) -> str:
    """How answers are judged in the end."""
    reward = reward_of(scoring.reward)
    return (reward_of(reward.final) if reward.final else reward).about.format(**vars(scoring))


def _judges(
    backbone: Backbone, held: HeldOut, cache_gib: float | None, final: bool = False
) -> Callable[[Question], ModelJudge]:
    """The judge of each question, one for all that are scored alike. Those of searches only verify answers to open
    questions; ``final`` ones write them."""

    @cache
    def judge(scoring: Scoring) -> ModelJudge:
        name = (final and reward_of(scoring.reward).final) or scoring.reward
        return make_judge(backbone, replace(scoring, reward=name), cache_gib)

    return lambda question: judge(held.scoring(question))


def _best_of_beams(name: str, beams: Sequence[Sequence[Chain]], table: HeldTable) -> Choice:
    """Of the chains that a controller finds most probable, the first that is right: the gold answer chooses."""
    best = [
        max(chains, key=lambda chain, row=row: table.rewards[row, table.places[chain]])  # type: ignore[misc]
        for row, chains in enumerate(beams)
    ]
    return Choice(name, tuple(best), oracle=True)
