"""Outcomes of every policy on held-out questions, from runs of the backbone."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from cola_learn.backbone.backbone import Backbone
from cola_learn.chains import Chain
from cola_learn.console import progress_bar
from cola_learn.errors import UserError
from cola_learn.evaluate.options import EvaluateOptions
from cola_learn.evaluate.policies import Policy, choose_static, chosen_by, controller_beams, shuffled, static_candidates
from cola_learn.evaluate.statistics import Outcome
from cola_learn.label.labeller import Labeller
from cola_learn.label.manifest import Manifest
from cola_learn.label.plan import Job, Plan
from cola_learn.label.records import Label
from cola_learn.label.run import fill_store, start_workers
from cola_learn.label.store import LabelStore
from cola_learn.tasks.judge import ModelJudge
from cola_learn.tasks.judges import make_judge, score_questions
from cola_learn.tasks.questions import Question, Template, as_sample
from cola_learn.tasks.scores import Scores
from cola_learn.tasks.scoring import Scoring
from cola_learn.train.controller import Controller
from cola_learn.train.features import prompt_features

BEAMS = 5


def evaluate_policies(
    controller: Controller,
    beside: Mapping[str, Controller],
    store: LabelStore,
    backbone: Backbone,
    questions: Sequence[Question],
    options: EvaluateOptions,
    own: Sequence[Policy] = (),
) -> dict[str, list[Outcome]]:
    """The outcome of every policy on every question, in the order in which the report lists them."""
    scoring = store.manifest.scoring
    judge = make_judge(backbone, scoring, options.cache_gib)
    samples = [as_sample(question, scoring.template) for question in questions]
    prompts = [sample.prompt for sample in samples]
    mine = {policy.name: chosen_by(policy, samples, backbone.num_layers) for policy in own}
    features = prompt_features(backbone, prompts, controller.config.feature_layers)
    others = {
        name: list(map(other.choose, prompt_features(backbone, prompts, other.config.feature_layers)))
        for name, other in beside.items()
    }
    beams = controller_beams(controller, features, BEAMS)
    top1 = [chains[0] for chains in beams]
    mean_depth = sum(chain.depth for chain in top1) / len(top1)
    static = _static_chain(judge, store, mean_depth, options)
    base = Chain.base(backbone.num_layers)
    policies = {
        "base": [base] * len(questions),
        "static": [static] * len(questions),
        "shuffled_prompt": shuffled(top1, options.seed),
        "controller": top1,
        **others,
        **mine,
    }
    wanted = [{*beam, *(chains[index] for chains in policies.values())} for index, beam in enumerate(beams)]
    scores = _score_all(judge_of_policies(judge, scoring), questions, wanted, scoring.template, options.trees)
    outcomes = {
        name: [
            _outcome(question, chain, scores[index], base)
            for index, (question, chain) in enumerate(zip(questions, chains, strict=True))
        ]
        for name, chains in policies.items()
    }
    outcomes["controller_top5_oracle"] = [
        max(
            (_outcome(question, chain, scores[index], base) for chain in chains),
            key=lambda found: found.reward,
        )
        for index, (question, chains) in enumerate(zip(questions, beams, strict=True))
    ]
    labels = _searched(judge, questions, store.manifest, options)
    outcomes["search_oracle"] = [
        _search_outcome(question, labels[question.key], plain.reward)
        for question, plain in zip(questions, outcomes["base"], strict=True)
    ]
    luck = [_luck_outcome(labels[question.key], base) for question in questions]
    outcomes["luck_control"] = [outcome for outcome in luck if outcome is not None]
    return {name: rows for name, rows in outcomes.items() if rows}


def judge_of_policies(judge: ModelJudge, scoring: Scoring) -> ModelJudge:
    """What judges the policies' chains: that of the search, but answers to open questions are written."""
    return make_judge(judge.backbone, replace(scoring, reward="generate")) if judge.provisional else judge


def _static_chain(judge: ModelJudge, store: LabelStore, mean_depth: float, options: EvaluateOptions) -> Chain:
    labels = store.read()
    manifest = store.manifest
    candidates = static_candidates(labels, mean_depth, options.static_candidates)
    if not candidates:
        return min((trial.chain for label in labels for trial in label.trials), key=lambda chain: chain.depth)
    pool = list(store.questions().values())
    return choose_static(judge, pool[: options.static_questions], candidates, manifest.template)


def _score_all(
    judge: ModelJudge, questions: Sequence[Question], wanted: Sequence[set[Chain]], template: Template, together: int
) -> list[dict[Chain, Scores]]:
    # sets have no order of their own; a fixed one keeps runs alike
    chains = {
        question.key: sorted(own, key=lambda chain: chain.layers)
        for question, own in zip(questions, wanted, strict=True)
    }
    found: dict[str, dict[Chain, Scores]] = {}
    with progress_bar() as bar:
        task = bar.add_task("policies", total=sum(map(len, wanted)), unit="chains", note="")
        by_length = sorted(questions, key=lambda question: len(question.text))
        for question, scores in score_questions(judge, by_length, lambda one: chains[one.key], template, together):
            found[question.key] = scores
            bar.advance(task, len(scores))
    return [found[question.key] for question in questions]


def _outcome(question: Question, chain: Chain, scores: Mapping[Chain, Scores], base: Chain) -> Outcome:
    gold = question.gold
    score = scores[chain]
    return Outcome(question.key, chain, score.reward(gold), scores[base].reward(gold), score.choice, gold)


def _searched(
    judge: ModelJudge, questions: Sequence[Question], manifest: Manifest, options: EvaluateOptions
) -> dict[str, Label]:
    """Labels of the held-out questions: those given, or full search like that of the labels, with its luck control."""
    if options.searched is not None:
        return _given(options.searched, questions, manifest)
    plan = Plan(options.search, manifest.search_space, seed=options.seed)
    job = Job(judge.backbone.name, manifest.scoring, plan, options.resources(manifest.dtype))
    here = job.resources.workers == 1 and job.resources.executor == "local"
    with closing(Labeller(judge, job) if here else start_workers(job)) as workers:
        own = Manifest.of(workers.identity, job, options.task or manifest.task, questions[0])
        store = LabelStore.create(options.output / "search", own)
        fill_store(store, workers, questions, plan, "full search")
    return {label.key: label for label in store}


def _given(folder: Path, questions: Sequence[Question], manifest: Manifest) -> dict[str, Label]:
    """The labels of a store of the user's.

    Raises:
        UserError: if they are of another model or scored otherwise, or some of the questions have none.
    """
    store = LabelStore.open(folder, "--searched")
    for name in ("fingerprint", "special_tokens", "template", "metric", "reward"):
        mine, theirs = getattr(store.manifest, name), getattr(manifest, name)
        if mine != theirs:
            raise UserError(f"--searched {folder} was made with {name} {mine}, the --labels with {theirs}")
    store.check(questions)
    found = {label.key: label for label in store}
    if missing := [question.key for question in questions if question.key not in found]:
        raise UserError(
            f"--searched {folder} lacks {len(missing)} of {len(questions)} questions, such as {missing[0]}; label them "
            "too, or leave --searched out"
        )
    return found


def _search_outcome(question: Question, label: Label, base_reward: float) -> Outcome:
    best = label.good[0] if label.good else label.base
    return Outcome(
        label.key, best.chain, best.reward, base_reward, question.gold if best.reward >= 1 else -1, question.gold
    )


def _luck_outcome(label: Label, base: Chain) -> Outcome | None:
    """The luck control of a question that base answers wrongly, as if its wrong option, which base does not answer
    with either, were gold."""
    if label.luck is None or label.base.reward >= 1:
        return None
    chain = label.luck.found[-1][0] if label.luck.found else base
    reached, option = bool(label.luck.found), label.luck.option
    return Outcome(label.key, chain, float(reached), 0.0, option if reached else -1, option)
