"""lm-evaluation-harness with our model type against our own judge, question by question, on a task file of its form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from cola_learn import Backbone, Chain, Controller, Question, Scoring, apply_chain, make_judge, score_questions
from cola_learn.errors import UserError
from cola_learn.infer import harness
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import as_sample
from cola_learn.train.features import prompt_features
from tests.architectures import tiny_model
from tests.tiny_cola import CHAIN, Cola, tiny_cola

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
    model = harness.ColaLM(chain="0-29", dtype="float32", device="cpu")
    other = harness.ColaLM(chain=STATIC, dtype="float32", device="cpu")
    requests = [
        Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 6}), index)
        for index, text in enumerate(("The capital of France is", "Plants need"))
    ]
    assert model.generate_until(requests, disable_tqdm=True) != other.generate_until(requests, disable_tqdm=True)


@pytest.fixture
def cola(tmp_path: Path) -> Cola:
    return tiny_cola(tmp_path)


DOCUMENTS = ["w05 w17 w30 w08 w61 w12 w44", "w09 w03 w33"]


def perplexities(model: HFLM) -> list[float]:
    requests = [Instance("loglikelihood_rolling", {}, (text,), index) for index, text in enumerate(DOCUMENTS)]
    return model.loglikelihood_rolling(requests, disable_tqdm=True)


def test_perplexity_of_documents(cola: Cola) -> None:
    """Through the chain that was given; through the plain one where a controller has nothing to read."""
    cola.model.save_pretrained(cola.folder / "controller")
    backbone = str(cola.folder / "backbone")
    plain = perplexities(HFLM(pretrained=backbone, device="cpu"))
    chosen = harness.ColaLM(controller=str(cola.folder / "controller"), device="cpu")
    assert perplexities(chosen) == plain
    found = perplexities(harness.ColaLM(chain=CHAIN, backbone=backbone, device="cpu"))
    with apply_chain(cola.plain, CHAIN) as applied:
        expected = perplexities(HFLM(pretrained=applied, tokenizer=cola.model.tokenizer, device="cpu"))
    assert found == expected != plain


# an argument of the harness's own model, and what holds of the model then
ARGUMENTS: dict[str, tuple[dict[str, Any], Callable[[Any], bool]]] = {
    "dtype": ({"dtype": "float64"}, lambda lm: lm.model.dtype == torch.float64),
    "device": ({"device": "cpu"}, lambda lm: lm.device == torch.device("cpu")),
    "attn_implementation": (
        {"attn_implementation": "eager"},
        lambda lm: lm.model.config._attn_implementation == "eager",
    ),
    "batch_size": ({"batch_size": 7}, lambda lm: lm.batch_size == 7),
    "max_length": ({"max_length": 11}, lambda lm: lm.max_length == 11),
    "peft": ({"peft": "adapter"}, lambda lm: type(lm.model).__name__ == "PeftModelForCausalLM"),
    "tokenizer": ({"tokenizer": "words"}, lambda lm: lm.tokenizer.pad_token == "w00"),
    "parallelize": ({"parallelize": True}, lambda lm: hasattr(lm.model, "hf_device_map")),
    "add_bos_token": ({"add_bos_token": True}, lambda lm: lm.add_bos_token),
}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("policy", ["controller", "chain"])
def test_arguments_of_the_harness_are_its_own(name: str, policy: str, cola: Cola) -> None:
    given, holds = ARGUMENTS[name]
    cola.model.save_pretrained(cola.folder / "controller")
    cola.model.tokenizer.save_pretrained(cola.folder / "words")
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(tiny_model("llama"), lora).save_pretrained(cola.folder / "adapter")
    given = {key: str(cola.folder / value) if key in ("peft", "tokenizer") else value for key, value in given.items()}
    chosen = {"controller": str(cola.folder / "controller")} if policy == "controller" else {"chain": CHAIN}
    model = harness.ColaLM(**chosen, backbone=str(cola.folder / "backbone"), **{"device": "cpu", **given})
    assert holds(model)


def test_a_model_without_all_its_weights_is_refused(cola: Cola) -> None:
    backbone = cola.folder / "backbone"
    weights = load_file(backbone / "model.safetensors")
    save_file(
        {n: w for n, w in weights.items() if n != "lm_head.weight"}, backbone / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UserError, match=r"has no weights for lm_head.weight"):
        harness.ColaLM(chain=CHAIN, backbone=str(backbone), device="cpu")
