"""Invariant 3: generation with a slot per visit equals generation without any cache."""

import pytest
import torch

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.generate import Generator
from cola_learn.backbone.recording import Batch
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from tests.architectures import tiny_model, wild_chains
from tests.conftest import WordTokenizer

PROMPT = [5, 17, 60, 33, 8, 21, 40, 9, 77, 12]
SLOTTED = (
    *("llama", "qwen2", "qwen3", "qwen3_moe", "olmo2", "gemma2", "gemma3_text", "mistral", "gpt_neox", "gpt_oss"),
    *("phi3", "cohere2", "smollm3", "gpt2", "granite", "starcoder2", "olmoe", "stablelm"),
)
RECOMPUTED = ("bloom", "mamba", "falcon", "qwen3_next", "lfm2", "gptj")


def load(model_type: str) -> Backbone:
    return Backbone(tiny_model(model_type), WordTokenizer(), model_type)


def greedy(backbone: Backbone, chain: Chain, tokens: list[int], count: int) -> list[list[float]]:
    """Independent reference: logits of every step, all tokens through the chain each time, one row alone."""
    steps = []
    for _ in range(count):
        recording = backbone.record_inputs(input_ids=torch.tensor([tokens]))
        hidden = recording.hidden
        for layer in chain.layers:
            hidden = backbone.run_layer(layer, hidden, Batch([recording]))
        steps.append(backbone.finish(hidden[0, -1:])[0].tolist())
        tokens = [*tokens, int(torch.tensor(steps[-1]).argmax())]
    return steps


@pytest.mark.parametrize("model_type", SLOTTED)
def test_slots_equal_running_everything_again(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than any sliding window (8 tokens), through chains that skip, loop and reorder."""
    backbone = load(model_type)
    backbone.model.generation_config.eos_token_id = -1
    generator, seen, finish = Generator(backbone), list[list[float]](), backbone.finish
    assert generator.cached
    monkeypatch.setattr(backbone, "finish", lambda hidden: seen.append((out := finish(hidden))[0].tolist()) or out)
    for chain in wild_chains(4):
        seen.clear()
        generator.generate([PROMPT], [chain], 8)
        found = torch.tensor(seen)
        expected = torch.tensor(greedy(backbone, chain, PROMPT, 8))
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4), str(chain)


@pytest.mark.parametrize("model_type", RECOMPUTED)
def test_layers_that_remember_more_than_keys_run_everything_again(model_type: str) -> None:
    backbone = load(model_type)
    generator = Generator(backbone)
    assert not generator.cached
    chain = wild_chains(4)[2]
    expected = torch.tensor(greedy(backbone, chain, PROMPT, 4)).argmax(-1).tolist()
    backbone.model.generation_config.eos_token_id = -1
    assert generator.generate([PROMPT], [chain], 4) == [expected]


@pytest.mark.parametrize("budget", [0, 20_000, 2**30])
def test_company_changes_nothing(tiny: Backbone, budget: int) -> None:
    """Rows of different lengths through different chains, some of them sharing a prompt."""
    prompts = [PROMPT, PROMPT[:4], PROMPT, [*PROMPT, *PROMPT], PROMPT[:4]]
    chains = [Chain.parse(text, 6) for text in ("0-5", "0 2-5", "0-2 (3)x2 4-5", "0-5", "(0-2)x2 5")]
    together = Generator(tiny, budget)
    expected = []
    for prompt, chain in zip(prompts, chains, strict=True):
        expected += Generator(tiny, 0, cached=False).generate([prompt], [chain], 10)
    assert together.generate(prompts, chains, 10) == expected
    assert together.generate(prompts, chains, 10) == expected, "from what was kept"


def test_a_second_chain_runs_a_prompt_only_through_what_is_new(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(tiny)
    generator.generate([PROMPT], [Chain.base(6)], 1)
    ran = []
    run_rows = tiny.run_rows
    monkeypatch.setattr(tiny, "run_rows", lambda layer, *rest: ran.append(layer) or run_rows(layer, *rest))
    generator.generate([PROMPT, PROMPT], [Chain.parse("0-3 5", 6), Chain.base(6)], 1)
    assert ran == [5]


def test_base_chain_generates_what_the_model_does(smollm32: Backbone) -> None:
    texts = ["The capital of France is", "Water boils at a temperature of", "Once upon a time"]
    prompts = [smollm32.tokenizer.encode(text) for text in texts]
    found = Generator(smollm32).generate(prompts, [Chain.base(30)] * 3, 16)
    for prompt, tokens in zip(prompts, found, strict=True):
        expected = smollm32.model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0]
        ends = [int(token) for token in expected[len(prompt) :] if token not in (smollm32.tokenizer.eos_token_id,)]
        assert tokens == ends


def test_looping_chain_on_the_embedded_model(smollm32: Backbone) -> None:
    prompt = smollm32.tokenizer.encode("The capital of France is")
    chains = [Chain.parse(text, 30) for text in ("0-8 (9-10)x2 11-20 23-29", "0-29", "0-18 20-29")]
    cached = Generator(smollm32).generate([prompt] * 3, chains, 12)
    assert cached == Generator(smollm32, cached=False).generate([prompt] * 3, chains, 12)


def test_a_model_can_be_used_to_its_last_position() -> None:
    backbone = load("gpt2")
    backbone.model.generation_config.eos_token_id = -1
    prompt = [5 + index % 60 for index in range(54)]
    chain = Chain.parse("0 2-3", 4)
    found = Generator(backbone).generate([prompt], [chain], 10)
    assert found == Generator(backbone, cached=False).generate([prompt], [chain], 10)
    assert len(found[0]) == 10


def test_prompts_that_cannot_run_are_named(tiny: Backbone) -> None:
    with pytest.raises(UserError, match="no tokens"):
        Generator(tiny).generate([[]], [Chain.base(6)])
    with pytest.raises(UserError, match="exceed the 128 tokens that tiny reads"):
        Generator(tiny).generate([[5] * 100], [Chain.base(6)], 64)
