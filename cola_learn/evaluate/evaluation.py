"""The evaluate stage: every policy on held-out questions, and the report."""

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy
from torch import Tensor

from cola_learn.backbone.fingerprint import of_memory
from cola_learn.chains import Chain
from cola_learn.command import settings_of
from cola_learn.console import console, next_command
from cola_learn.errors import UserError
from cola_learn.evaluate.breakdown import counts_by_group
from cola_learn.evaluate.comparison import evaluate_live, evaluate_stored
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.inputs import HeldOut, Inputs, open_inputs, show_files
from cola_learn.evaluate.page import accuracy_curves, reliability_curves, write_html
from cola_learn.evaluate.per_question import write_answers
from cola_learn.evaluate.policies import Policy
from cola_learn.evaluate.report import Report
from cola_learn.evaluate.results import Evaluated, Result
from cola_learn.evaluate.tables import as_markdown, print_report
from cola_learn.files import locked, read_json, writable_folder, write_json, write_text
from cola_learn.label.score_matrix import ScoreMatrix
from cola_learn.rewards.reward import REWARDS
from cola_learn.tasks.questions import Question
from cola_learn.tracking import Artifact, Tracker, artifact_name
from cola_learn.train.features import features_of
from cola_learn.train.hub import controller_artifact
from cola_learn.train.next_stage import infer_command

FILES = ("report.json", "report.html", "report.md", "questions.parquet")


def run_evaluate(options: EvaluateOptions) -> Report:
    """Evaluate policies as the options say, print the table and write the report.

    Raises:
        UserError: for options that cannot be met.
    """
    inputs = open_inputs(options)
    writable_folder(options.output)
    with locked(options.output):
        identity = inputs.identity()
        report = _finished_report(options.output / "report.json", identity)
        if report is None:
            report = _evaluate(inputs, identity)
        else:
            console.print("evaluate: done already with these settings, labels and controllers")
    print_report(report)
    console.print(f"report      {options.output / 'report.html'}", soft_wrap=True)
    _print_next(report, inputs)
    return report


def _print_next(report: Report, inputs: Inputs) -> None:
    """What to do with the best policy: nothing where that is the plain model."""
    best, options = report.best_row, inputs.options
    folders = dict(zip(inputs.controllers, options.controllers, strict=True))
    if best.policy == "base":
        console.print(f"no policy is above the plain model: keep it, or pay for fewer layers with {report.measure}")
    elif best.policy in folders:
        kind = inputs.controllers[best.policy].config.kind
        next_command(infer_command(folders[best.policy], kind, best.price))
    elif best.chain:
        folder = options.output / "static"
        backbone = [] if inputs.backbone_name == "embedded" else ["--backbone", inputs.backbone_name]
        next_command(["python -m cola_learn.export", "--chain", best.chain, *backbone, "--output", folder])


def _evaluate(inputs: Inputs, identity: str) -> Report:
    options = inputs.options
    with Tracker("evaluate", options.tracking, options.output, settings_of(options), options.wandb) as tracker:
        for store in (*inputs.stores, *inputs.others):
            tracker.input(store.artifact())
        for folder in options.controllers:
            tracker.input(controller_artifact(folder))
        evaluated = _stored(inputs) if inputs.held is None else _live(inputs, inputs.held)
        report = _report(inputs, evaluated, identity)
        _write(options.output, report, evaluated)
        numbers = report.numbers()
        # whatever it is called, the first controller has a name that a dashboard knows
        shown = {**numbers, "controller": numbers[report.main.name]} if report.controllers else numbers
        for name, row in shown.items():
            tracker.summary({f"{artifact_name(name)}/{key}": value for key, value in row.items()})
        if report.luck:
            tracker.summary({"luck_control/corrected": report.luck.reached})
        tracker.table(
            "policies", ("policy", *next(iter(numbers.values()))), [[n, *r.values()] for n, r in numbers.items()]
        )
        tracker.table("examples", ("question", "chain", "reward", "base reward"), _examples(report, evaluated))
        name = artifact_name("evaluation", *report.tasks[:1], inputs.backbone_name)
        paths = [options.output / file for file in FILES]
        tracker.output(Artifact(name, "evaluation", paths, {"headline": report.headline, **report.setting}))
    return report


def _live(inputs: Inputs, held: HeldOut) -> Evaluated:
    backbone = inputs.load_backbone()
    show_files(held, backbone.encoder)
    policies = [policy for policy in inputs.policies if isinstance(policy, Policy)]
    return evaluate_live(backbone, inputs.stores, held, inputs.controllers, policies, inputs.options)


def _stored(inputs: Inputs) -> Evaluated:
    """Results from stored scores.

    Raises:
        UserError: if the stores and controllers do not belong together.
    """
    options, manifest = inputs.options, inputs.stores[0].manifest
    pool = ScoreMatrix.load(inputs.stores, measure=options.measure)
    held = ScoreMatrix.load(inputs.others, "--held", pool.temperatures, options.measure)
    if pool.chains != held.chains or manifest.model.fingerprint != inputs.others[0].manifest.model.fingerprint:
        raise UserError(f"--held {options.held} was run through another menu or model than --labels")
    labelled = {(question.key, question.digest) for question in pool.questions}
    if seen := [question.key for question in held.questions if (question.key, question.digest) in labelled]:
        raise UserError(f"--held {options.held}: {len(seen)} questions, such as {min(seen)}, are among --labels")
    for folder, controller in zip(options.controllers, inputs.controllers.values(), strict=True):
        if controller.menu != pool.chains:
            raise UserError(
                f"--controllers {folder} chooses from another menu than that of --labels; leave --held out to run it"
            )
    questions = (*pool.questions, *held.questions)  # of the held-out ones all, so that their features are kept once
    if options.part != "all":
        blind = numpy.array([is_blind(question.key) for question in held.questions])
        held = held.take(numpy.flatnonzero(blind == (options.part == "blind")))
        if not len(held):
            raise UserError(f"--part {options.part}: no question of --held {options.held} is of it; give --part all")
    backbone = cache(inputs.load_backbone)

    @lru_cache(maxsize=1)  # controllers that read the same layers follow each other
    def read(layers: tuple[int, ...]) -> dict[str, Tensor]:
        return features_of(manifest, questions, layers, backbone, manifest.model.dtype)

    def features(some: Sequence[Question], layers: Sequence[int]) -> list[Tensor]:
        known = read(tuple(layers))
        return [known[question.key] for question in some]

    policies, template = inputs.policies, manifest.scoring.template
    evaluated = evaluate_stored(pool, held, inputs.controllers, policies, features, options, template)
    names = [store.manifest.source.title for store in inputs.others]
    part = "" if options.part == "all" else f", {options.part} part"
    scorings = dict.fromkeys(store.manifest.scoring for store in inputs.others)
    reward = REWARDS[options.measure or manifest.scoring.reward]
    metrics = dict.fromkeys(reward.about if reward.continuous else one.metric for one in scorings)
    setting = {"tasks": ", ".join(dict.fromkeys(names)) + part, "metric": ", ".join(metrics), "measure": reward.measure}
    return replace(evaluated, setting=setting)


def is_blind(key: str) -> bool:
    """Whether a held-out question is of the blind fifth, by a hash of its name: the same fifth for everybody."""
    return hashlib.sha256(key.encode()).digest()[0] % 5 == 0


def _report(inputs: Inputs, evaluated: Evaluated, identity: str) -> Report:
    options, manifest = inputs.options, inputs.stores[0].manifest
    labels = ", ".join(dict.fromkeys(store.manifest.source.title for store in inputs.stores))
    return Report(
        n=len(evaluated.questions),
        labelled=sum(len(store.keys()) for store in inputs.stores),
        groups=counts_by_group(evaluated.groups),
        controllers={name: of_memory(controller) for name, controller in inputs.controllers.items()},
        setting={
            **evaluated.setting,
            "static chain": str(_chains(evaluated.result("static"))[0]),
            "labels": labels,
            "backbone": inputs.backbone_name,
            "layers": str(manifest.model.num_layers),
            "dtype": options.dtype or manifest.model.dtype,
            "seed": str(options.seed),
            "command": _command_of(options),
        },
        rows=evaluated.rows(options.seed),
        luck=evaluated.luck,
        reliability=evaluated.reliability,
        identity=identity,
    )


def _write(folder: Path, report: Report, evaluated: Evaluated) -> None:
    write_answers(folder, _answers(evaluated.questions, evaluated.results))
    write_text(folder / "report.md", as_markdown(report))
    write_html(folder / "report.html", report, evaluated)
    plots = {}
    if any(row.target is not None for row in report.rows):
        plots["curves.svg"] = accuracy_curves(report.rows, int(report.setting["layers"]), report.measure)
    if report.reliability:
        plots["reliability.svg"] = reliability_curves(report.reliability)
    for name, svg in plots.items():
        if svg:  # what draws is installed
            write_text(folder / name, svg)
    write_json(folder / "report.json", report.as_json())  # at the end: with it an evaluation counts as finished


def _answers(questions: Sequence[Question], results: Iterable[Result]) -> list[dict[str, Any]]:
    return [
        {
            "policy": result.name,
            "oracle": result.oracle,
            "question": question.key,
            "digest": question.digest,
            "reward": float(result.rewards[place]),
            "depth": float(result.layers[place]),
            "chain": None if result.chains is None else str(result.chains[place]),
            "choice": None if result.answers is None else result.answers[place],
            "gold": question.gold,
        }
        for result in results
        for place, question in enumerate(questions)
    ]


def _examples(report: Report, evaluated: Evaluated) -> list[tuple[str, str, float, float]]:
    base, main = evaluated.results[0], evaluated.result(report.main.name)
    rows = zip(evaluated.questions, _chains(main), main.rewards, base.rewards, strict=True)
    return [(question.key, str(chain), float(mine), float(plain)) for question, chain, mine, plain in rows][:50]


def _chains(result: Result) -> Sequence[Chain]:
    """Those of a policy that runs one chain a question."""
    assert result.chains is not None
    return result.chains


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


def _command_of(options: EvaluateOptions) -> str:
    """The command line of this evaluation."""
    parts: list[object] = ["--labels", options.labels]
    for name in ("controllers", "policies", "tasks"):
        if values := getattr(options, name):
            parts += [f"--{name}", *values]
    parts += [] if options.limit is None else ["--limit", options.limit]
    if options.held:
        parts += ["--held", options.held, *([] if options.part == "all" else ["--part", options.part])]
        parts += [] if options.learners else ["--learners", "false"]
    else:
        parts += ["--searched", options.searched] if options.searched else options.search.flags()
    return "python -m cola_learn.evaluate " + shlex.join(map(str, [*parts, "--seed", options.seed]))
