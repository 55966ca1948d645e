"""The evaluate stage: held-out questions through every policy, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shlex import quote

from cola_learn.backbone import Backbone, load_backbone
from cola_learn.backbone.load import Dtype, fingerprint_of
from cola_learn.chains import Chain
from cola_learn.console import console, next_command, progress_bar
from cola_learn.errors import UserError
from cola_learn.evaluate.costs import Cost, policy_costs
from cola_learn.evaluate.policies import choose_static, controller_beams, shuffled, static_candidates
from cola_learn.evaluate.report import EXPLAINED, Report, print_report, write_html
from cola_learn.evaluate.statistics import Outcome, sees_gold, summarize_policy
from cola_learn.files import digest, locked, read_json, replacing, writable_folder, write_json
from cola_learn.label import Label, LabelStore, Manifest, SearchSettings
from cola_learn.label.labeller import Labeller, make_scorer
from cola_learn.label.options import LabelOptions
from cola_learn.label.run import fill_store, make_manifest
from cola_learn.label.show import show_prompt
from cola_learn.tasks import Layout, Question, Scorer, Scores, Writer, as_sample, load_task
from cola_learn.tasks.files import is_file
from cola_learn.tracking import Mode, Tracker
from cola_learn.train import Controller
from cola_learn.train.features import prompt_features

BEAMS = 5


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of python -m cola_learn.evaluate.

    Attributes:
        controller: folder of an exported controller.
        labels: label store that it was trained on; the static chain is chosen on its questions.
        beside: folders of other exported controllers to compare it with.
        task: task of the held-out questions; default that of the labels.
        split: split of the held-out questions; none of them may be among the labels.
        limit: evaluate at most this many questions, drawn with the seed; default all.
        output: folder for report.html, report.json, questions.parquet and the searches; these are resumed.
        backbone: default the one that the controller was trained for.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: default that of the labels.
        search: budget and selection rule of the full search and of its luck control.
        static_candidates: how many chains that did well in the labels are tried as static chain.
        static_questions: on how many labelled questions each of them is tried.
        trees: samples searched at the same time.
        cache_gib: memory for hidden states that chains share, in GiB; by default a share of what is free.
        seed: of every draw.
        tracking: W&B offline, online or disabled; auto is online with an API key, else offline.
    """

    controller: Path
    labels: Path
    beside: list[Path] = field(default_factory=list)
    task: str | None = None
    split: str = "validation"
    limit: int | None = None
    output: Path = Path("runs/evaluate")
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype | None = None
    search: SearchSettings = field(default_factory=SearchSettings)
    static_candidates: int = 16
    static_questions: int = 100
    trees: int = 32
    cache_gib: float | None = None
    seed: int = 0
    tracking: Mode = "auto"


def run_evaluate(options: EvaluateOptions) -> Report:
    """Evaluate a controller as the options say, print the table and write the report.

    Raises:
        UserError: for options that cannot be met.
    """
    LabelOptions(trees=options.trees, cache_gib=options.cache_gib, seed=options.seed).check()
    for name in ("static_candidates", "static_questions"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)} is too few; give at least 1")
    controller = Controller.from_pretrained(options.controller)
    beside = {str(folder): Controller.from_pretrained(folder) for folder in options.beside}
    if taken := [name for name in beside if name in EXPLAINED or sees_gold(name)]:
        raise UserError(f"--beside {taken[0]} is the name of another policy; rename the folder")
    store = LabelStore.open(options.labels)
    questions = _held_out_questions(options, store)
    writable_folder(options.output)
    with locked(options.output):
        identity = _identity(options, controller, store, questions)
        report = _finished_report(options.output / "report.json", identity)
        if report is None:
            report = _evaluate(controller, beside, store, questions, options, identity)
        else:
            console.print("evaluate: done already with these settings, labels and controller")
    print_report(report)
    console.print(f"report      {options.output / 'report.html'}", soft_wrap=True)
    next_command(["python -m cola_learn.infer", "--controller", options.controller, "What do plants need to grow?"])
    return report


def _evaluate(
    controller: Controller,
    beside: Mapping[str, Controller],
    store: LabelStore,
    questions: Sequence[Question],
    options: EvaluateOptions,
    identity: str,
) -> Report:
    backbone = load_backbone(
        options.backbone or controller.config.backbone, options.device, options.dtype or store.manifest.dtype
    )
    for each in (controller, *beside.values()):
        each.check_backbone(backbone.num_layers, backbone.fingerprint, backbone.name)
    _check_labels(store, backbone, controller)
    backbone.heed(store.manifest.special_tokens, f"--labels {store.folder}")
    if is_file(options.task or store.manifest.task):
        show_prompt(questions[0], _label_options(store.manifest, backbone, options), backbone.encoder, whole=False)
    with Tracker("evaluate", options.tracking, options.output, asdict(options)) as tracker:
        outcomes = evaluate_policies(controller, beside, store, backbone, questions, options)
        chains = {name: [row.chain for row in rows] for name, rows in outcomes.items() if not sees_gold(name)}
        choosers = {"shuffled_prompt": controller, "controller": controller, **beside}
        label_options = _label_options(store.manifest, backbone, options)
        judge = _judge(questions, make_scorer(backbone, label_options), label_options).alone()
        costs = policy_costs(judge, questions, label_options.template, chains, choosers)
        report = _make_report(outcomes, costs, store, backbone, options, identity)
        _write_questions(options.output / "questions.parquet", outcomes)
        write_html(options.output / "report.html", report, outcomes, {q.key: q for q in questions})
        write_json(options.output / "report.json", report.as_json())
        tracker.summary({f"{name}/{key}": value for name, row in report.rows().items() for key, value in row.items()})
        tracker.table("policies", ("policy", *next(iter(report.rows().values()))), report.table())
        tracker.table("examples", ("question", "chain", "reward", "base reward"), _examples(outcomes["controller"]))
        paths = [options.output / name for name in ("report.json", "report.html", "questions.parquet")]
        tracker.artifact("report", "report", paths)
    return report


def _identity(
    options: EvaluateOptions, controller: Controller, store: LabelStore, questions: Sequence[Question]
) -> str:
    """Changes with everything that the numbers depend on."""
    settings = {key: value for key, value in asdict(options).items() if key not in ("tracking", "output", "trees")}
    settings["fingerprint"] = fingerprint_of(options.backbone or controller.config.backbone)
    settings["questions"] = {question.key: question.digest for question in questions}
    folders = (options.controller, *options.beside)
    controllers = [folder / name for folder in folders for name in ("config.json", "model.safetensors")]
    return digest(settings, *controllers, *store.files())


def _finished_report(file: Path, identity: str) -> Report | None:
    """The report in a file, if it is of this very evaluation."""
    if not file.exists():
        return None
    try:
        report = Report.from_json(read_json(file))
    except (OSError, ValueError) as error:
        console.print(f"{file} cannot be read ({error}); evaluating again", soft_wrap=True)
        return None
    return report if report.identity == identity else None


def evaluate_policies(
    controller: Controller,
    beside: Mapping[str, Controller],
    store: LabelStore,
    backbone: Backbone,
    questions: Sequence[Question],
    options: EvaluateOptions,
) -> dict[str, list[Outcome]]:
    """The outcome of every policy on every question, in the order in which the report lists them."""
    label_options = _label_options(store.manifest, backbone, options)
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
    scores = _score_all(_judge(questions, scorer, label_options), questions, wanted, label_options)
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


def _label_options(manifest: Manifest, backbone: Backbone, options: EvaluateOptions) -> LabelOptions:
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


def _judge(questions: Sequence[Question], scorer: Scorer | Writer, options: LabelOptions) -> Scorer | Writer:
    """What judges the policies' chains: the scorer, but answers to open questions are written."""
    return Writer(scorer.backbone, options.prompt, truncate=scorer.truncate) if questions[0].open else scorer


def _held_out_questions(options: EvaluateOptions, store: LabelStore) -> list[Question]:
    task, layout = options.task or store.manifest.task, Layout(**store.manifest.layout)
    questions = load_task(task, options.split, options.limit, options.seed, layout=layout if is_file(task) else None)
    labelled = store.questions()
    seen = labelled.keys() & {question.key for question in questions}
    if seen:
        raise UserError(
            f"--split {options.split}: {len(seen)} of the questions, such as {min(seen)}, are among the labels; "
            "evaluate on a split or file that was not labelled"
        )
    known = {question.content for question in labelled.values()}
    fresh = [question for question in questions if question.content not in known]
    if len(fresh) < min(2, len(questions)):
        raise UserError(
            f"--task {task}: its questions are those that were labelled, under other names; evaluate on others"
        )
    if len(fresh) < len(questions):
        console.print(
            f"{len(questions) - len(fresh)} of {len(questions)} held-out questions are among the labels under other "
            "names and are left out"
        )
        questions = fresh
    if len(questions) < 2:
        raise UserError(f"--limit {options.limit} leaves one question; comparing policies needs at least 2")
    return questions


def _check_labels(store: LabelStore, backbone: Backbone, controller: Controller) -> None:
    manifest = store.manifest
    if manifest.fingerprint != backbone.fingerprint:
        raise UserError(
            f"--labels {store.folder} were made with backbone {manifest.backbone} ({manifest.fingerprint}), "
            f"not {backbone.name} ({backbone.fingerprint})"
        )
    if manifest.search_space != controller.config.space:
        raise UserError(
            f"--labels {store.folder} were made in {manifest.search_space}; "
            f"the controller writes chains of {controller.config.space}"
        )


def _static_chain(scorer: Scorer | Writer, store: LabelStore, mean_depth: float, options: EvaluateOptions) -> Chain:
    labels = store.read()
    manifest = store.manifest
    candidates = static_candidates(labels, mean_depth, options.static_candidates)
    if not candidates:
        return min((trial.chain for label in labels for trial in label.trials), key=lambda chain: chain.depth)
    known = {label.key for label in labels}
    pool = [question for key, question in store.questions().items() if key in known]
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


def _make_report(
    outcomes: Mapping[str, Sequence[Outcome]],
    costs: Mapping[str, Cost],
    store: LabelStore,
    backbone: Backbone,
    options: EvaluateOptions,
    identity: str,
) -> Report:
    manifest = store.manifest
    task = options.task or manifest.task
    return Report(
        n=len(outcomes["base"]),
        policies={name: summarize_policy(rows, options.seed) for name, rows in outcomes.items()},
        costs=costs,
        identity=identity,
        setting={
            "task": task,
            "split": options.split,
            "trained on": f"{manifest.task} {manifest.split}, {len(store.keys())} labelled questions",
            "backbone": f"{backbone.name} ({backbone.num_layers} layers, {manifest.dtype})",
            "metric": "answers written greedily and graded"
            if manifest.prompt
            else f"{manifest.metric}, {manifest.template} scoring",
            "static chain": str(outcomes["static"][0].chain),
            "search budget": f"{options.search.simulations} simulations a question",
            "seed": str(options.seed),
            "command": f"python -m cola_learn.evaluate --controller {quote(str(options.controller))} "
            f"--labels {quote(str(options.labels))} --task {quote(task)} --split {quote(options.split)} "
            f"--limit {options.limit} --seed {options.seed} --search.simulations {options.search.simulations}",
        },
    )


def _examples(outcomes: Sequence[Outcome]) -> list[tuple[str, str, float, float]]:
    return [(row.key, str(row.chain), row.reward, row.base_reward) for row in outcomes[:50]]


def _write_questions(path: Path, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [
        {
            "policy": name,
            "question": outcome.key,
            "chain": str(outcome.chain),
            "depth": outcome.chain.depth,
            "unique_depth": outcome.chain.unique_depth,
            "reward": outcome.reward,
            "base_reward": outcome.base_reward,
            "choice": outcome.choice,
            "target": outcome.target,
        }
        for name, found in outcomes.items()
        for outcome in found
    ]
    with replacing(path) as scratch:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), scratch, write_page_checksum=True)
