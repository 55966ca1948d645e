"""lm-evaluation-harness with our model type against our own judge, question by question, on a task file of its form."""

import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.tasks import TaskManager

from cola_learn import Backbone, Chain, Controller, Question, Scoring, make_judge, score_questions
from cola_learn.infer import harness
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import as_sample
from cola_learn.train.features import prompt_features

MENU = Path(__file__).parents[2] / "checkpoints" / "menu"
STATIC = "0-11 14-19 (20)x2 21-29"
TASK = """
task: mine
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list: [{{metric: acc}}]
"""


@pytest.fixture(scope="module")
def questions(arc: list[Question]) -> list[Question]:
    """Of ARC-Easy and of ARC-Challenge."""
    return [*arc[:10], *load_task("arc_challenge", "validation", limit=10)]


@pytest.fixture(scope="module")
def task(questions: list[Question], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harness")
    rows = [{"question": one.text, "choices": list(one.choices), "gold": one.gold} for one in questions]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.yaml").write_text(TASK.format(file=folder / "rows.jsonl"))
    return folder


def answers_of_harness(task: Path, **settings: Any) -> list[int]:
    found = lm_eval.simple_evaluate(
        model="cola",
        model_args={**settings, "dtype": torch.float32, "device": "cpu", "batch_size": 8},
        tasks=["mine"],
        task_manager=TaskManager(include_path=str(task)),
        bootstrap_iters=0,
    )
    samples = sorted(found["samples"]["mine"], key=lambda sample: sample["doc_id"])
    scores = [[value for value, _ in sample["filtered_resps"]] for sample in samples]
    return [max(range(len(row)), key=row.__getitem__) for row in scores]


@pytest.mark.parametrize(
    "policy",
    [pytest.param("base", marks=pytest.mark.slow), pytest.param("static", marks=pytest.mark.slow), "controller"],
)
def test_answers_are_ours(policy: str, task: Path, questions: list[Question], smollm32: Backbone) -> None:
    chains = {question.key: Chain.parse("0-29" if policy == "base" else STATIC, 30) for question in questions}
    if policy == "controller":
        controller = Controller.from_pretrained(MENU)
        prompts = [as_sample(question).prompt for question in questions]
        states = prompt_features(smollm32, prompts, controller.config.feature_layers)
        chains = {one.key: controller.choose(state) for one, state in zip(questions, states, strict=True)}
        assert len(set(chains.values())) > 1
        theirs = answers_of_harness(task, controller=str(MENU))
    else:
        theirs = answers_of_harness(task, chain="0-29" if policy == "base" else STATIC)
    judge = make_judge(smollm32, Scoring(metric="acc"))
    ours = [
        scores[chains[question.key]].choice
        for question, scores in score_questions(judge, questions, lambda one: [chains[one.key]])
    ]
    assert theirs == ours


def test_one_of_both_is_needed() -> None:
    for settings in ({}, {"controller": str(MENU), "chain": STATIC}):
        with pytest.raises(ValueError, match="one of them"):
            harness.ColaLM(**settings)


def test_written_answers_go_through_the_chain(smollm32: Backbone) -> None:
    from lm_eval.api.instance import Instance

    model = harness.ColaLM(chain="0-29", dtype="float32", device="cpu")
    other = harness.ColaLM(chain=STATIC, dtype="float32", device="cpu")
    requests = [
        Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 6}), index)
        for index, text in enumerate(("The capital of France is", "Plants need"))
    ]
    assert model.generate_until(requests, disable_tqdm=True) != other.generate_until(requests, disable_tqdm=True)
