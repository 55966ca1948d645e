"""Invariant 7: what a deployable policy does cannot depend on the gold answers of the evaluation questions."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from cola_learn.backbone.backbone import Backbone
from cola_learn.chains import SearchSpace
from cola_learn.evaluate.comparison import evaluate_live
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.inputs import HeldOut
from cola_learn.label.labeller import Labeller
from cola_learn.label.manifest import Manifest
from cola_learn.label.plan import Job, Plan
from cola_learn.label.run import fill_store
from cola_learn.label.store import LabelStore
from cola_learn.rewards.judges import make_judge
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.methods import MCTS
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question
from cola_learn.train.controller import Controller
from cola_learn.train.controller_config import ControllerConfig


def shortest(questions: Sequence[Question], count: int) -> list[Question]:
    return sorted(questions, key=lambda question: len(question.text))[:count]


def test_other_gold_answers_change_no_deployable_choice(
    smollm32: Backbone, arc: list[Question], tmp_path: Path
) -> None:
    job = Job("embedded", Scoring(metric="acc", reward="choices"), Plan(MCTS(6)))
    labelled = shortest(load_task("arc_easy", "test", 30), 6)
    labeller = Labeller(make_judge(smollm32, job.scoring), job)
    store = LabelStore.create(tmp_path / "labels", Manifest.of(labeller.identity, job, "arc_easy", labelled[0]))
    fill_store(store, labeller, labelled, job.plan, "label")
    torch.manual_seed(0)
    config = ControllerConfig(30, 576, SearchSpace(), (0, 2), 32, 1, 2, 0.0, "embedded", smollm32.fingerprint)
    controller = Controller(config).eval()
    torch.nn.init.normal_(controller.bias, std=3.0)  # so that it does not choose one chain for all
    torch.nn.init.normal_(controller.read.weight, std=1.0)

    def chosen(questions: list[Question], name: str) -> dict[str, list[tuple[str, int]]]:
        options = EvaluateOptions(
            labels=store.folder,
            output=tmp_path / name,
            search=MCTS(2),
            static_candidates=3,
            static_questions=3,
            cost_questions=1,
        )
        names, scorings = {("arc_easy", "validation"): ("arc_easy", "validation")}, {"arc_easy": job.scoring}
        held = HeldOut(tuple(questions), names, scorings, frozenset(scorings))
        results = evaluate_live(smollm32, [store], held, {"controller": controller}, [], options).results
        names = [result.policy for result in results if not re.fullmatch(r"static_\d+", result.policy)]
        assert names == [*("base", "static", "controller", "controller_top5_oracle", "search_oracle")]
        deployable = [result for result in results if not result.oracle]
        assert len(deployable) >= 3
        return {
            result.policy: list(zip(map(str, result.chains or ()), result.answers or (), strict=True))
            for result in deployable
        }

    questions = shortest(arc, 4)
    moved = [dataclasses.replace(question, gold=(question.gold + 1) % len(question.choices)) for question in questions]
    assert chosen(questions, "true") == chosen(moved, "moved")
