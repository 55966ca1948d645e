"""What every policy does on held-out questions, by running the backbone."""

from collections.abc import Mapping, Sequence

from cola_learn.backbone import Backbone
from cola_learn.chains import Chain
from cola_learn.console import progress_bar
from cola_learn.evaluate.options import EvaluateOptions
from cola_learn.evaluate.policies import choose_static, controller_beams, shuffled, static_candidates
from cola_learn.evaluate.statistics import Outcome
from cola_learn.label import Label, LabelStore, Manifest
from cola_learn.label.labeller import Labeller, make_scorer
from cola_learn.label.options import LabelOptions
from cola_learn.label.run import fill_store, make_manifest
from cola_learn.tasks import Question, Scorer, Scores, Writer, as_sample
from cola_learn.train import Controller
from cola_learn.train.features import prompt_features

BEAMS = 5


def evaluate_policies(
    controller: Controller,
    beside: Mapping[str, Controller],
    store: LabelStore,
    backbone: Backbone,
    questions: Sequence[Question],
    options: EvaluateOptions,
) -> dict[str, list[Outcome]]:
    """The outcome of every policy on every question, in the order in which the report lists them."""
    label_options = label_options_of(store.manifest, backbone, options)
    scorer = make_scorer(backbone, label_options)
    prompts = [as_sample(question, label_options.template).prompt for question in questions]
    features = prompt_features(backbone, prompts, controller.config.feature_layers)
    others = {
        name: list(map(other.choose, prompt_features(backbone, prompts, other.config.feature_layers)))
        for name, other in beside.items()
    }
    beams = controller_beams(controller, features, BEAMS)
    top1 = [chains[0] for chains in beams]
    mean_depth = sum(chain.depth for chain in top1) / len(top1)
    static = _static_chain(scorer, store, mean_depth, options)
    base = Chain.base(backbone.num_layers)
    policies = {
        "base": [base] * len(questions),
        "static": [static] * len(questions),
        "shuffled_prompt": shuffled(top1, options.seed),
        "controller": top1,
        **others,
    }
    wanted = [{*own, *(chains[index] for chains in policies.values())} for index, own in enumerate(beams)]
    scores = _score_all(judge_of(questions, scorer, label_options), questions, wanted, label_options)
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
    labels = _searched(scorer, questions, label_options, options)
    outcomes["search_oracle"] = [
        _search_outcome(question, labels[question.key], plain.reward)
        for question, plain in zip(questions, outcomes["base"], strict=True)
    ]
    luck = [_luck_outcome(labels[question.key], base) for question in questions]
    outcomes["luck_control"] = [outcome for outcome in luck if outcome is not None]
    return {name: rows for name, rows in outcomes.items() if rows}


def label_options_of(manifest: Manifest, backbone: Backbone, options: EvaluateOptions) -> LabelOptions:
    """Those of a search of the held-out questions that is like the one which made the labels."""
    return LabelOptions(
        task=options.task or manifest.task,
        split=options.split,
        backbone=backbone.name,
        template=manifest.template,
        metric=manifest.metric,
        reward=manifest.reward,
        prompt=manifest.answer_prompt,
        truncate=manifest.truncate,
        search=options.search,
        space=manifest.search_space,
        trees=options.trees,
        cache_gib=options.cache_gib,
        seed=options.seed,
    )


def judge_of(questions: Sequence[Question], scorer: Scorer | Writer, options: LabelOptions) -> Scorer | Writer:
    """What judges the policies' chains: the scorer, but answers to open questions are written."""
    return Writer(scorer.backbone, options.prompt, truncate=scorer.truncate) if questions[0].open else scorer


def _static_chain(scorer: Scorer | Writer, store: LabelStore, mean_depth: float, options: EvaluateOptions) -> Chain:
    labels = store.read()
    manifest = store.manifest
    candidates = static_candidates(labels, mean_depth, options.static_candidates)
    if not candidates:
        return min((trial.chain for label in labels for trial in label.trials), key=lambda chain: chain.depth)
    pool = list(store.questions().values())
    return choose_static(scorer, pool[: options.static_questions], candidates, manifest.template)


def _score_all(
    scorer: Scorer | Writer, questions: Sequence[Question], wanted: Sequence[set[Chain]], options: LabelOptions
) -> list[dict[Chain, Scores]]:
    scores: list[dict[Chain, Scores]] = [{} for _ in questions]
    order = sorted(range(len(questions)), key=lambda index: len(questions[index].text))
    with progress_bar() as bar:
        task = bar.add_task("policies", total=sum(map(len, wanted)), unit="chains", note="")
        for start in range(0, len(order), options.trees):
            group = order[start : start + options.trees]
            for index in group:
                scorer.open(as_sample(questions[index], options.template))
            # sets have no order of their own; a fixed one keeps runs alike
            pairs = [(index, chain) for index in group for chain in sorted(wanted[index], key=lambda c: c.layers)]
            found = scorer.score([(questions[index].key, chain) for index, chain in pairs])
            for (index, chain), score in zip(pairs, found, strict=True):
                scores[index][chain] = score
            for index in group:
                scorer.close(questions[index].key)
            bar.advance(task, len(pairs))
    return scores


def _outcome(question: Question, chain: Chain, scores: Mapping[Chain, Scores], base: Chain) -> Outcome:
    gold = question.gold
    score = scores[chain]
    return Outcome(question.key, chain, score.reward(gold), scores[base].reward(gold), score.choice, gold)


def _searched(
    scorer: Scorer | Writer, questions: Sequence[Question], label_options: LabelOptions, options: EvaluateOptions
) -> dict[str, Label]:
    """Labels of the held-out questions: full search, with its luck control."""
    labeller = Labeller(scorer, label_options)
    store = LabelStore.create(options.output / "search", make_manifest(labeller.identity, label_options, questions[0]))
    fill_store(store, labeller, questions, label_options, "full search")
    return {label.key: label for label in store}


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
