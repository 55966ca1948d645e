"""Responses that the model writes itself, against transformers' generate of one prompt alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cola_learn.errors import UserError
from cola_learn.label.label_options import LabelOptions
from cola_learn.label.plan import Plan, Resources, Responses
from cola_learn.label.run import label_tasks
from cola_learn.label.store import LabelStore
from cola_learn.search.methods import RandomEdits
from tests.end_to_end.conftest import save_tiny

OWN = Responses("own", response_tokens=6)
PROMPTS = ["One, two", "The cat", "A much longer prompt than the others, so that rows are padded", "Why?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder, 4)
    return str(folder)


def label(model: str, folder: Path, rows: list[dict[str, Any]], responses: Responses = OWN, **more: Any) -> LabelStore:
    file = folder / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = Plan(RandomEdits(simulations=3), luck=False, neighbours=0, seed=more.pop("seed", 0))
    options = LabelOptions(
        [str(file)],
        output=folder / "labels",
        backbone=model,
        tracking="disabled",
        plan=plan,
        resources=Resources(dtype="float32"),
        responses=responses,
    )
    [store], _ = label_tasks(replace(options, **more))
    return store


def written_alone(model: str, prompt: str, count: int = OWN.response_tokens) -> str:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = tokenizer(prompt, return_tensors="pt")
    whole = AutoModelForCausalLM.from_pretrained(model).generate(**tokens, max_new_tokens=count, do_sample=False)
    return str(tokenizer.decode(whole[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))


def test_greedy_responses_are_those_of_transformers(model: str, tmp_path: Path) -> None:
    store = label(model, tmp_path, [{"prompt": prompt} for prompt in PROMPTS])
    questions = store.questions()
    assert [one.choices for one in questions.values()] == [
        (written_alone(model, one.text),) for one in questions.values()
    ]
    assert sorted(one.text for one in questions.values()) == sorted(PROMPTS)
    assert all(found.base.reward == 1.0 for found in store)
    assert store.manifest.source.responses == OWN


def test_what_is_written_is_kept(model: str, tmp_path: Path) -> None:
    """A run that goes on writes what is missing alone; another prompt, or a lost file, is noticed."""
    first = label(model, tmp_path, [{"prompt": prompt} for prompt in PROMPTS], limit=2)
    own = {key: replace(one, choices=("by hand",)) for key, one in first.kept().items()}
    for file in first.files():
        file.unlink()
    first.keep(own.values())
    again = label(model, tmp_path, [{"prompt": prompt} for prompt in PROMPTS]).questions()
    assert len(again) == 4
    assert own.items() <= again.items()
    with pytest.raises(UserError, match=r"mine/file/1 is no longer what it was when its response was written"):
        label(model, tmp_path, [{"prompt": "Other"}, {"prompt": PROMPTS[1]}])
    (tmp_path / "labels" / "questions.parquet").unlink()
    with pytest.raises(UserError, match=r"the model wrote to .*mine.jsonl are in questions.parquet, which is gone"):
        LabelStore.open(tmp_path / "labels").questions()


@pytest.mark.parametrize(
    ("rows", "more", "texts"),
    [
        ([{"question": "Who?", "choices": ["x", "y"], "answer": "x"}], {}, ["Question: Who?\nAnswer:"]),
        ([{"prompt": "Hm.", "response": "Ah."}, {"prompt": "So.", "response": ""}], {}, ["Hm.\n", "So.\n"]),
        ([{"messages": [{"role": "user", "content": "Hm."}]}], {}, None),
    ],
    ids=["choices", "given responses", "a conversation that ends with a question"],
)
def test_tasks_of_any_kind_give_prompts(
    model: str, tmp_path: Path, rows: list[dict[str, Any]], more: dict[str, Any], texts: list[str] | None
) -> None:
    if texts is None:
        tokenizer = AutoTokenizer.from_pretrained(model)
        texts = [tokenizer.apply_chat_template(rows[0]["messages"], tokenize=False, add_generation_prompt=True)]
    store = label(model, tmp_path, rows, **more)
    assert sorted(one.text for one in store.questions().values()) == texts
    assert store.manifest.scoring.reward == "likelihood"


def test_draws_go_by_the_seed(model: str, tmp_path: Path) -> None:
    drawn, found = replace(OWN, temperature=2.0), []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        state = torch.random.get_rng_state()
        store = label(model, tmp_path / name, [{"prompt": prompt} for prompt in PROMPTS], drawn, seed=seed)
        assert torch.equal(state, torch.random.get_rng_state())
        found.append([one.choices for one in store.questions().values()])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"response_tokens": 6}, "give --responses own"),
        ({"temperature": 1.0}, "give --responses own"),
        ({"responses": "own", "response_tokens": 0}, "response_tokens is 0; give at least 1"),
        ({"responses": "own", "temperature": -1.0}, "temperature is -1.0; give 0 or more"),
        ({"responses": "own", "temperature": float("nan")}, "temperature is nan; give 0 or more"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Responses(**settings)


def test_prompts_alone_without_it_are_refused_with_how(model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prompts alone are labelled with --responses own"):
        label(model, tmp_path, [{"prompt": prompt} for prompt in PROMPTS], Responses())
