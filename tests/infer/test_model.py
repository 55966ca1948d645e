"""A controller in front of a transformers model, in the programs that people have: held against plain transformers."""

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    TextIteratorStreamer,
    pipeline,
)

from cola_learn import (
    Backbone,
    Chain,
    ColaForCausalLM,
    Controller,
    ControllerConfig,
    Question,
    SearchSpace,
    apply_chain,
)
from cola_learn.backbone.apply_chain import apply_chains
from cola_learn.backbone.layers import find_layers
from cola_learn.errors import UserError
from cola_learn.train.features import prompt_features
from tests.architectures import tiny_model

MENU = Path(__file__).parents[2] / "checkpoints" / "menu"
PROMPTS = [
    "Question: Which of these rusts?\nAnswer:",
    "Question: What do plants need to grow?\nAnswer:",
    "Once upon a time",
]
STATIC = "0-11 14-19 (20)x2 21-29"


@pytest.fixture(scope="module")
def model() -> ColaForCausalLM:
    """At a price at which prompts get different chains."""
    found = ColaForCausalLM.from_pretrained(MENU, dtype=torch.float32)
    found.controller.rule = replace(found.controller.rule, price=0.15)
    return found


def batch_of(model: ColaForCausalLM, prompts: list[str]) -> Any:
    return model.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")


def test_it_chooses_what_the_executor_s_features_choose(
    model: ColaForCausalLM, smollm32: Backbone, arc: list[Question]
) -> None:
    prompts = [*PROMPTS, *(question.text for question in arc[:20])]
    layers = model.controller.config.feature_layers
    expected = [model.controller.choose(each) for each in prompt_features(smollm32, prompts, layers)]
    assert len(set(expected)) > 2
    assert [model.choose(prompt) for prompt in prompts] == expected
    batch = batch_of(model, prompts)
    assert model.choose_chains(batch["input_ids"], batch["attention_mask"]) == expected


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_the_base_chain_writes_what_the_plain_model_writes(
    count: int, model: ColaForCausalLM, arc: list[Question]
) -> None:
    """Token for token, in batches with left padding."""
    for start in range(0, count, 20):
        batch = batch_of(model, [question.text for question in arc[start : start + 20]])
        settings = {**batch, "max_new_tokens": 5, "do_sample": False}
        assert torch.equal(model.generate(chain="0-29", **settings), model.backbone.generate(**settings))


def test_several_prompts_get_what_each_gets_alone(model: ColaForCausalLM) -> None:
    chains = [model.choose(prompt) for prompt in PROMPTS]
    assert len(set(chains)) > 1  # else the test says little
    alone = [model.write(prompt, chain, max_new_tokens=6) for prompt, chain in zip(PROMPTS, chains, strict=True)]
    assert model.write(PROMPTS, max_new_tokens=6) == alone
    for prompt, chain, text in zip(PROMPTS, chains, alone, strict=True):
        tokens = model.tokenizer(prompt, return_tensors="pt")
        with apply_chain(model.backbone, chain) as plain:
            row = plain.generate(**tokens, max_new_tokens=6, do_sample=False)[0]
        assert model.tokenizer.decode(row[tokens["input_ids"].shape[1] :], skip_special_tokens=True).strip() == text


@pytest.mark.slow
def test_beams_and_samples_stay_with_their_prompts(model: ColaForCausalLM) -> None:
    batch = batch_of(model, PROMPTS)
    settings = {"max_new_tokens": 4, "num_beams": 2, "num_return_sequences": 2, "do_sample": False}
    found = model.generate(**batch, **settings)
    assert found.shape[0] == 6
    for index, prompt in enumerate(PROMPTS):
        alone = model.generate(**model.tokenizer(prompt, return_tensors="pt"), **settings)
        for ours, one in zip(found[2 * index : 2 * index + 2], alone, strict=True):
            new = batch["input_ids"].shape[1]
            own = len(model.tokenizer(prompt)["input_ids"])
            kept = ours[new:].tolist()
            assert kept[: len(one) - own] == one[own:].tolist()


def test_logits_are_those_of_each_row_s_chain(model: ColaForCausalLM) -> None:
    batch = model.tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    found = model(**batch, labels=labels)
    chains = model.choose_chains(batch["input_ids"], batch["attention_mask"])
    for row, chain in enumerate(chains):
        with apply_chain(model.backbone, chain) as plain, torch.inference_mode():
            expected = plain(**{name: value[row : row + 1] for name, value in batch.items()}).logits[0]
        assert torch.allclose(found.logits[row], expected, atol=1e-3)
    loss = torch.nn.functional.cross_entropy(found.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert float(found.loss) == pytest.approx(float(loss), abs=1e-4)
    with pytest.raises(ValueError, match="past_key_values is not supported"):
        model(**batch, past_key_values=object())


def test_a_price_sets_how_deep_text_is_written(model: ColaForCausalLM) -> None:
    cheap, dear = (model.choose(PROMPTS[0], price) for price in (0.0, 1.0))
    assert dear.depth < cheap.depth
    assert model.write(PROMPTS[1], price=1.0) == model.write(PROMPTS[1], model.choose(PROMPTS[1], 1.0))
    with pytest.raises(UserError, match="--price -1 is no price"):
        model.choose(PROMPTS[0], -1.0)


def test_pipelines_and_streamers(model: ColaForCausalLM) -> None:
    ask = pipeline("text-generation", model=model, tokenizer=model.tokenizer)
    settings = {"max_new_tokens": 6, "do_sample": False, "return_full_text": False}
    assert ask(PROMPTS[1], **settings)[0]["generated_text"].strip() == model.write(PROMPTS[1], max_new_tokens=6)
    streamer = TextIteratorStreamer(model.tokenizer, skip_prompt=True, skip_special_tokens=True)
    tokens = model.tokenizer(PROMPTS[1], return_tensors="pt")
    options = {**tokens, "streamer": streamer, "generation_config": GenerationConfig(max_new_tokens=6, do_sample=False)}
    thread = threading.Thread(target=model.generate, kwargs=options)
    thread.start()
    assert "".join(streamer).strip() == model.write(PROMPTS[1], max_new_tokens=6)
    thread.join()
    settings = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 2, "do_sample": False}
    kept = model.generate(**batch_of(model, PROMPTS), **settings)
    assert len(kept.scores) == 2
    assert torch.equal(kept.scores[0].argmax(-1), kept.sequences[:, -2])
    with pytest.raises(ValueError, match="return_dict_in_generate is not supported with num_beams and several chains"):
        model.generate(**batch_of(model, PROMPTS), **settings, num_beams=2)


def test_auto_classes_and_saving(model: ColaForCausalLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text().startswith("---\n")
    assert AutoConfig.from_pretrained(tmp_path / "mine").model_type == "cola"
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "mine", dtype=torch.float32)
    assert isinstance(again, ColaForCausalLM)
    assert again.write(PROMPTS, max_new_tokens=4) == model.write(PROMPTS, max_new_tokens=4)
    lent = ColaForCausalLM.from_pretrained(tmp_path / "mine", backbone=model.backbone)
    assert lent.backbone is model.backbone
    assert lent.choose(PROMPTS[0]) == model.choose(PROMPTS[0])


def test_the_harness_takes_it_as_any_model(model: ColaForCausalLM, caplog: pytest.LogCaptureFixture) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.Logger.warning_once.cache_clear()  # type: ignore[attr-defined]  # other tests may have been warned
    harness = HFLM(pretrained=model, tokenizer=model.tokenizer, batch_size=1)
    request = Instance("loglikelihood", {}, (PROMPTS[0], " iron"), 0)
    [(found, _)] = harness.loglikelihood([request], disable_tqdm=True)
    assert "lm_eval --model cola reads the context alone" in caplog.text
    tokens = model.tokenizer(PROMPTS[0] + " iron", return_tensors="pt")["input_ids"]
    start = len(model.tokenizer(PROMPTS[0])["input_ids"])
    logprobs = model(tokens[:, :-1]).logits[0].log_softmax(-1)
    wanted = tokens[0, start:]
    expected = logprobs[torch.arange(start - 1, tokens.shape[1] - 1), wanted].sum()
    assert found == pytest.approx(float(expected), abs=2e-3)


@pytest.mark.parametrize("model_type", ["qwen3", "gemma3_text", "qwen3_moe", "gpt2"])
def test_other_architectures_write_through_their_chains(model_type: str) -> None:
    """Rows of different chains, padded on the left, against each alone without a cache."""
    backbone = tiny_model(model_type).eval()
    torch.manual_seed(0)
    size = backbone.config.get_text_config().hidden_size
    config = ControllerConfig(4, size, SearchSpace(2, 1), (0, 2), 16, 1, 2, 0.0, backbone=model_type)
    controller = Controller(config)
    torch.nn.init.normal_(controller.bias, std=2.0)
    torch.nn.init.normal_(controller.read.weight, std=1.0)
    model = ColaForCausalLM(backbone, controller)
    rows = [torch.tensor(row) for row in ([5, 17, 30, 8, 61, 12, 44], [9, 3, 33], [21, 40, 7, 7, 50], [11] * 6)]
    chains = [model.choose_chains(row[None])[0] for row in rows]
    assert len(set(chains)) > 1
    padded = torch.stack([torch.nn.functional.pad(row, (7 - len(row), 0)) for row in rows])
    mask = torch.stack([torch.nn.functional.pad(torch.ones_like(row), (7 - len(row), 0)) for row in rows])
    settings = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    found = model.generate(padded, attention_mask=mask, **settings)[:, 7:]
    for row, chain, written in zip(rows, chains, found, strict=True):
        with apply_chain(backbone, chain) as plain:
            expected = plain.generate(row[None], use_cache=False, **settings)[0, len(row) :]
        assert written.tolist() == expected.tolist(), (chain, model_type)


@pytest.mark.parametrize("model_type", ["qwen3", "gemma3_text", "gpt2", "qwen3_next"])
def test_layers_that_the_controller_reads_run_once(model_type: str) -> None:
    """Where every chain begins with them; text, samples and logits stay what they are when they run twice."""
    backbone = tiny_model(model_type).eval()
    torch.manual_seed(0)
    size = backbone.config.get_text_config().hidden_size
    controller = Controller(ControllerConfig(4, size, SearchSpace(1, 1), (0, 2), 16, 1, 2, 0.0, backbone=model_type))
    model = ColaForCausalLM(backbone, controller)
    ids = torch.tensor([[0, 0, 5, 17, 30, 8], [9, 3, 33, 21, 12, 44]])
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    settings = {**batch, "max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    chains = [Chain.parse(text, 4) for text in ("0-1 3", "0-2 (3)x2")]
    answers = iter(chains * 3)
    controller.choose = lambda states, price=None: next(answers)  # type: ignore[method-assign]
    ran = [0] * 4
    for place, layer in enumerate(find_layers(backbone, model_type)):
        layer.register_forward_pre_hook(lambda *_, place=place: ran.__setitem__(place, ran[place] + 1))
    written = model.generate(**settings)
    once = model_type != "qwen3_next"  # it keeps more than keys and values, and the layers run again
    assert ran[:2] == ([3, 3] if once else [4, 4])
    sampling = {**settings, "do_sample": True, "num_return_sequences": 2}
    torch.manual_seed(1)
    samples = model.generate(**sampling)
    ran[:] = [0] * 4
    logits = model(**batch).logits
    assert ran[:2] == [1, 1]
    with apply_chains(backbone, chains) as plain:
        assert torch.equal(plain.generate(**settings), written)
        torch.manual_seed(1)
        assert torch.equal(plain.generate(**sampling), samples)
        assert torch.equal(plain(**batch).logits, logits)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the controller is for 30 layers"):
        ColaForCausalLM.from_pretrained(MENU, backbone=tiny_model("qwen3"), tokenizer=object())
    with pytest.raises(UserError, match="is not an exported controller"):
        ColaForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded"):
        ColaForCausalLM.from_pretrained(MENU, backbone=tmp_path)
    assert Chain.base(30).is_base
