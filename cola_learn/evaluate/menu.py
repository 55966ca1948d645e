"""``python -m cola_learn.evaluate menu``: opens the stores and controllers, and writes what the study found."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy
from torch import Tensor

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.fingerprint import of_memory
from cola_learn.backbone.load import load_backbone
from cola_learn.console import console, next_command
from cola_learn.errors import UserError
from cola_learn.evaluate.answers import write_answers
from cola_learn.evaluate.figures import accuracy_curves, reliability_curves
from cola_learn.evaluate.menu_report import MenuReport, PolicyRow, as_markdown, print_rows
from cola_learn.evaluate.menu_study import Study
from cola_learn.evaluate.options import MenuEvaluateOptions
from cola_learn.files import writable_folder, write_json, write_text
from cola_learn.label.score_matrix import ScoreMatrix, open_stores
from cola_learn.train.controller import Controller
from cola_learn.train.features import features_of


def run_menu_evaluate(options: MenuEvaluateOptions) -> list[PolicyRow]:
    """Compare the policies, print the table and write the report.

    Raises:
        UserError: for stores or controllers that do not belong together.
    """
    writable_folder(options.output)
    study = open_study(options)
    rows = study.rows()
    print_rows(rows, study.pool, study.held)
    digests = {name: of_memory(controller) for name, controller in study.controllers.items()}
    tasks = tuple(dict.fromkeys(question.task for question in study.held.questions))
    report = MenuReport(len(study.held), tasks, digests, tuple(rows), options.part, tuple(study.reliability))
    write_json(options.output / "report.json", asdict(report))
    write_text(options.output / "report.md", as_markdown(report, study.pool, study.held))
    write_answers(options.output, study.answers)
    write_text(options.output / "curves.svg", accuracy_curves(rows, study.held.depths[0], study.seeds))
    if study.reliability:
        write_text(options.output / "reliability.svg", reliability_curves(study.reliability))
    console.print(f"report      {options.output / 'report.md'}", soft_wrap=True)
    if options.controllers:
        question = "What do plants need to grow?"
        next_command(["python -m cola_learn.infer", "--controller", options.controllers[0], question])
    return rows


def is_blind(key: str) -> bool:
    """Whether a held-out question is of the blind fifth, by a hash of its name: the same fifth for everybody."""
    return hashlib.sha256(key.encode()).digest()[0] % 5 == 0


def open_study(options: MenuEvaluateOptions) -> Study:
    """The study of the stores and controllers that the options name.

    Raises:
        UserError: if they do not belong together.
    """
    stores, others = open_stores(options.labels), open_stores(options.held, "--held")
    pool = ScoreMatrix.load(stores)
    held = ScoreMatrix.load(others, "--held", pool.temperatures)
    manifest = stores[0].manifest
    if pool.chains != held.chains or manifest.fingerprint != others[0].manifest.fingerprint:
        raise UserError(f"--held {options.held} was run through another menu or model than --labels")
    seen = {question.key for question in pool.questions} & {question.key for question in held.questions}
    if seen:
        raise UserError(f"--held {options.held}: {len(seen)} questions, such as {min(seen)}, are among --labels")
    questions = (*pool.questions, *held.questions)  # of the held-out ones all, so that their features are kept once
    if options.part != "all":
        blind = numpy.array([is_blind(question.key) for question in held.questions])
        held = held.take(numpy.flatnonzero(blind == (options.part == "blind")))
        if not len(held):
            raise UserError(f"--part {options.part}: no question of --held {options.held} is of it; give --part all")
    controllers: dict[Path, Controller] = {}
    for folder in options.controllers:
        controller = Controller.from_pretrained(folder)
        controller.config.check_backbone(manifest.num_layers, manifest.fingerprint, manifest.backbone)
        if controller.menu != pool.chains:
            raise UserError(f"--controllers {folder} chooses from another menu than that of --labels")
        controllers[folder] = controller
    names = [folder.parent.name if folder.name == "controller" else folder.name for folder in controllers]
    named = {
        name if names.count(name) == 1 else str(folder): controller
        for name, (folder, controller) in zip(names, controllers.items(), strict=True)
    }

    @lru_cache
    def backbone() -> Backbone:
        loaded = load_backbone(manifest.backbone, options.device, manifest.dtype)
        loaded.write_special_tokens(manifest.special_tokens, f"--labels {options.labels}")
        return loaded

    @lru_cache(maxsize=1)  # controllers that read the same layers follow each other
    def read(layers: tuple[int, ...]) -> dict[str, Tensor]:
        return features_of(manifest, questions, layers, backbone, manifest.dtype)

    def features(table: ScoreMatrix, layers: Sequence[int]) -> list[Tensor]:
        known = read(tuple(layers))
        return [known[question.key] for question in table.questions]

    return Study(pool, held, named, features, backbone, options)
