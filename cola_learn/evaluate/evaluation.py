"""The evaluate stage: every policy on held-out questions, and the report."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.fingerprint import of_memory
from cola_learn.backbone.load import fingerprint_of, load_backbone
from cola_learn.command import settings_of
from cola_learn.console import console, next_command
from cola_learn.errors import UserError
from cola_learn.evaluate.answers import write_answers
from cola_learn.evaluate.costs import Cost, policy_costs
from cola_learn.evaluate.live import evaluate_policies, judge_of_policies
from cola_learn.evaluate.options import EvaluateOptions
from cola_learn.evaluate.policies import Policy, policy_named
from cola_learn.evaluate.report import EXPLAINED, Report, print_report, write_html
from cola_learn.evaluate.statistics import Outcome, sees_gold, summarize_policy
from cola_learn.files import digest, locked, read_json, writable_folder, write_json
from cola_learn.label.show import show_prompt
from cola_learn.label.store import LabelStore
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.files import is_file
from cola_learn.tasks.judges import make_judge
from cola_learn.tasks.load import load_task
from cola_learn.tasks.questions import Question
from cola_learn.tracking import Artifact, Tracker, artifact_name
from cola_learn.train.controller import Controller
from cola_learn.train.hub import controller_artifact, fetched

_ONE_QUESTION_GIB = 0.25  # what a controller has read of a prompt is kept for its chain


def run_evaluate(options: EvaluateOptions) -> Report:
    """Evaluate a controller as the options say, print the table and write the report.

    Raises:
        UserError: for options that cannot be met.
    """
    controller = Controller.from_pretrained(options.controller)
    beside = {str(folder): Controller.from_pretrained(folder) for folder in options.beside}
    own = [policy_named(path) for path in options.policies]
    names = [*beside, *(policy.name for policy in own)]
    if taken := [name for name in names if name in EXPLAINED or sees_gold(name) or names.count(name) > 1]:
        raise UserError(f"{taken[0]} is the name of another policy; rename the folder of --beside, or the policy")
    store = LabelStore.open(options.labels)
    questions = _held_out_questions(options, store)
    writable_folder(options.output)
    with locked(options.output):
        identity = _identity(options, controller, store, questions)
        report = _finished_report(options.output / "report.json", identity)
        if report is None:
            report = _evaluate(controller, beside, own, store, questions, options, identity)
        else:
            console.print("evaluate: done already with these settings, labels and controller")
    print_report(report)
    console.print(f"report      {options.output / 'report.html'}", soft_wrap=True)
    next_command(["python -m cola_learn.infer", "--controller", options.controller, "What do plants need to grow?"])
    return report


def _evaluate(
    controller: Controller,
    beside: Mapping[str, Controller],
    own: Sequence[Policy],
    store: LabelStore,
    questions: Sequence[Question],
    options: EvaluateOptions,
    identity: str,
) -> Report:
    backbone = load_backbone(
        options.backbone or controller.config.backbone, options.device, options.dtype or store.manifest.dtype
    )
    for each in (controller, *beside.values()):
        each.config.check_backbone(backbone.num_layers, backbone.fingerprint, backbone.name)
    _check_labels(store, backbone, controller)
    backbone.write_special_tokens(store.manifest.special_tokens, f"--labels {store.folder}")
    if is_file(options.task or store.manifest.task):
        show_prompt(questions[0], store.manifest.scoring, backbone.encoder, whole=False)
    with Tracker("evaluate", options.tracking, options.output, settings_of(options), options.wandb) as tracker:
        tracker.input(store.artifact())
        for folder in (options.controller, *options.beside):
            tracker.input(controller_artifact(folder))
        outcomes = evaluate_policies(controller, beside, store, backbone, questions, options, own)
        chains = {name: [row.chain for row in rows] for name, rows in outcomes.items() if not sees_gold(name)}
        choosers = {"shuffled_prompt": controller, "controller": controller, **beside}
        scoring = store.manifest.scoring
        judge = judge_of_policies(make_judge(backbone, scoring, cache_gib=_ONE_QUESTION_GIB), scoring)
        costs = policy_costs(judge, questions, scoring.template, chains, choosers, options.cost_questions)
        report = _make_report(outcomes, costs, store, controller, backbone, options, identity)
        write_answers(options.output, _answers(outcomes, {question.key: question.digest for question in questions}))
        write_html(options.output / "report.html", report, outcomes, {q.key: q for q in questions})
        write_json(options.output / "report.json", report.as_json())
        for name, row in report.rows().items():
            tracker.summary({f"{artifact_name(name)}/{key}": value for key, value in row.items()})
        tracker.table("policies", ("policy", *next(iter(report.rows().values()))), report.table())
        tracker.table("examples", ("question", "chain", "reward", "base reward"), _examples(outcomes["controller"]))
        paths = [options.output / name for name in ("report.json", "report.html", "questions.parquet")]
        name = artifact_name("evaluation", report.setting["task"], backbone.name)
        tracker.output(Artifact(name, "evaluation", paths, {"headline": report.headline, **report.setting}))
    return report


def _identity(
    options: EvaluateOptions, controller: Controller, store: LabelStore, questions: Sequence[Question]
) -> str:
    """Changes with everything that the numbers depend on."""
    without = ("tracking", "wandb", "output", "trees", "workers", "executor", "ray_address")
    settings = {key: value for key, value in asdict(options).items() if key not in without}
    settings["search"] = [options.search.name, vars(options.search)]
    settings["fingerprint"] = fingerprint_of(options.backbone or controller.config.backbone)
    settings["questions"] = {question.key: question.digest for question in questions}
    folders = [fetched(folder) for folder in (options.controller, *options.beside)]
    controllers = [folder / name for folder in folders for name in ("config.json", "model.safetensors")]
    searched = LabelStore.open(options.searched, "--searched").files() if options.searched else []
    return digest(settings, *controllers, *store.files(), *searched)


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


def _make_report(
    outcomes: Mapping[str, Sequence[Outcome]],
    costs: Mapping[str, Cost],
    store: LabelStore,
    controller: Controller,
    backbone: Backbone,
    options: EvaluateOptions,
    identity: str,
) -> Report:
    manifest = store.manifest
    task = options.task or manifest.task
    budget = (
        LabelStore.open(options.searched).manifest.search["simulations"]
        if options.searched
        else options.search.budget(backbone.num_layers, manifest.search_space)
    )
    return Report(
        n=len(outcomes["base"]),
        policies={name: summarize_policy(rows, options.seed) for name, rows in outcomes.items()},
        costs=costs,
        identity=identity,
        setting={
            "task": task,
            "split": options.split,
            "labels": f"{manifest.task} {manifest.split}, {len(store.keys())} labelled questions",
            "controller": of_memory(controller),
            "backbone": f"{backbone.name} ({backbone.num_layers} layers, {manifest.dtype})",
            "metric": "answers written greedily and graded"
            if manifest.prompt
            else f"{manifest.metric}, {manifest.template} scoring",
            "static chain": str(outcomes["static"][0].chain),
            "search budget": f"{budget} simulations a question",
            "seed": str(options.seed),
            "command": _command_of(options, task),
        },
    )


def _command_of(options: EvaluateOptions, task: str) -> str:
    """The command line of this evaluation."""
    limit = [] if options.limit is None else ["--limit", options.limit]
    given = ["--controller", options.controller, "--labels", options.labels, "--task", task, "--split", options.split]
    search = ["--searched", options.searched] if options.searched else options.search.flags()
    parts = [*given, *limit, "--seed", options.seed, *search]
    return "python -m cola_learn.evaluate " + shlex.join(map(str, parts))


def _examples(outcomes: Sequence[Outcome]) -> list[tuple[str, str, float, float]]:
    return [(row.key, str(row.chain), row.reward, row.base_reward) for row in outcomes[:50]]


def _answers(outcomes: Mapping[str, Sequence[Outcome]], digests: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "policy": name,
            "question": outcome.key,
            "digest": digests[outcome.key],
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
