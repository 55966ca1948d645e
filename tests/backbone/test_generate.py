"""Invariant 3: generation with a slot per visit equals generation without any cache."""

from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MaxLengthCriteria,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.generate import Generator
from cola_learn.backbone.options import Decoding
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


class Recorder(LogitsProcessorList):
    """Keeps the logits it is shown."""

    def __init__(self) -> None:
        super().__init__([self._keep])
        self.steps: list[list[float]] = []

    def _keep(self, tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append(scores[0].tolist())
        return scores


@pytest.mark.parametrize("model_type", SLOTTED)
def test_slots_equal_running_everything_again(model_type: str) -> None:
    """Longer than any sliding window (8 tokens), through chains that skip, loop and reorder."""
    backbone = load(model_type)
    backbone.model.generation_config.eos_token_id = -1
    generator = Generator(backbone)
    assert generator.cached
    for chain in wild_chains(4):
        seen = Recorder()
        generator.generate([PROMPT], [chain], Decoding(8), logits_processor=seen)
        expected = torch.tensor(greedy(backbone, chain, PROMPT, 8))
        assert torch.allclose(torch.tensor(seen.steps), expected, rtol=1e-4, atol=1e-4), str(chain)


@pytest.mark.parametrize("model_type", RECOMPUTED)
def test_layers_that_remember_more_than_keys_run_everything_again(model_type: str) -> None:
    backbone = load(model_type)
    generator = Generator(backbone)
    assert not generator.cached
    chain = wild_chains(4)[2]
    expected = torch.tensor(greedy(backbone, chain, PROMPT, 4)).argmax(-1).tolist()
    backbone.model.generation_config.eos_token_id = -1
    assert generator.generate([PROMPT], [chain], Decoding(4)) == [expected]


@pytest.mark.parametrize("budget", [0, 20_000, 2**30])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_company_changes_nothing(tiny: Backbone, budget: int, temperature: float) -> None:
    """Rows of different lengths through different chains, some of them sharing a prompt."""
    prompts = [PROMPT, PROMPT[:4], PROMPT, [*PROMPT, *PROMPT], PROMPT[:4]]
    chains = [Chain.parse(text, 6) for text in ("0-5", "0 2-5", "0-2 (3)x2 4-5", "0-5", "(0-2)x2 5")]
    together = Generator(tiny, budget)
    expected = []
    for index, (prompt, chain) in enumerate(zip(prompts, chains, strict=True)):
        decoding = Decoding(10, temperature, seed=7 + index)  # a row's draws are seeded by its number
        expected += Generator(tiny, 0, cached=False).generate([prompt], [chain], decoding)
    assert together.generate(prompts, chains, Decoding(10, temperature, seed=7)) == expected
    assert together.generate(prompts, chains, Decoding(10, temperature, seed=7)) == expected, "from what was kept"


def test_a_second_chain_runs_a_prompt_only_through_what_is_new(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator(tiny)
    generator.generate([PROMPT], [Chain.base(6)], Decoding(1))
    ran = []
    run_rows = tiny.run_rows
    monkeypatch.setattr(tiny, "run_rows", lambda layer, *rest: ran.append(layer) or run_rows(layer, *rest))
    generator.generate([PROMPT, PROMPT], [Chain.parse("0-3 5", 6), Chain.base(6)], Decoding(1))
    assert ran == [5]


def test_base_chain_generates_what_the_model_does(smollm32: Backbone) -> None:
    texts = ["The capital of France is", "Water boils at a temperature of", "Once upon a time"]
    prompts = [smollm32.tokenizer.encode(text) for text in texts]
    found = Generator(smollm32).generate(prompts, [Chain.base(30)] * 3, Decoding(16))
    for prompt, tokens in zip(prompts, found, strict=True):
        expected = smollm32.model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0]
        ends = [int(token) for token in expected[len(prompt) :] if token not in (smollm32.tokenizer.eos_token_id,)]
        assert tokens == ends


def test_looping_chain_on_the_embedded_model(smollm32: Backbone) -> None:
    prompt = smollm32.tokenizer.encode("The capital of France is")
    chains = [Chain.parse(text, 30) for text in ("0-8 (9-10)x2 11-20 23-29", "0-29", "0-18 20-29")]
    cached = Generator(smollm32).generate([prompt] * 3, chains, Decoding(12))
    assert cached == Generator(smollm32, cached=False).generate([prompt] * 3, chains, Decoding(12))


def test_sampling_follows_its_distribution(tiny: Backbone) -> None:
    """Two thousand draws of one token against the softmax of the logits, cut to the top three."""
    logits = torch.tensor(greedy(tiny, Chain.base(6), PROMPT, 1)[0]) / 2.0
    top = logits.topk(3)
    expected = torch.zeros_like(logits).scatter(0, top.indices, top.values.softmax(-1))
    drawn = Generator(tiny).generate(
        [PROMPT] * 2000, [Chain.base(6)] * 2000, Decoding(1, temperature=2.0, top_k=3, seed=5)
    )
    counts = torch.bincount(torch.tensor([row[0] for row in drawn if row]), minlength=len(logits)) / 2000
    assert (counts - expected).abs().max() < 0.05


def test_transformers_utilities_serve(smollm32: Backbone) -> None:
    prompt = smollm32.tokenizer.encode("The capital of France is")
    chain, generator = Chain.base(30), Generator(smollm32)
    streamer = TextIteratorStreamer(smollm32.tokenizer, skip_prompt=True)
    plain = generator.generate([prompt], [chain], Decoding(24), streamer=streamer)[0]
    assert "".join(streamer) == smollm32.tokenizer.decode(plain)
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.3)])
    expected = smollm32.model.generate(
        torch.tensor([prompt]), max_new_tokens=24, do_sample=False, repetition_penalty=1.3
    )
    found = generator.generate([prompt], [chain], Decoding(24), logits_processor=processors)[0]
    assert found == [int(token) for token in expected[0, len(prompt) :] if token != smollm32.tokenizer.eos_token_id]
    stopping = StoppingCriteriaList([MaxLengthCriteria(len(prompt) + 5)])
    assert generator.generate([prompt], [chain], Decoding(24), stopping_criteria=stopping)[0] == plain[:5]


def test_stopping_criteria_see_their_own_row(smollm32: Backbone) -> None:
    """One that ends a row by its logits ends each row of a batch where it ends it alone."""

    class Unsure(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            assert scores.shape == (1, len(smollm32.tokenizer))
            return scores.softmax(-1).amax(-1) < 0.3

    prompts = [smollm32.tokenizer.encode(text) for text in ("The capital of France is", "Once upon a time")]
    criteria = StoppingCriteriaList([Unsure()])
    alone = [
        Generator(smollm32).generate([prompt], [Chain.base(30)], Decoding(24), stopping_criteria=criteria)[0]
        for prompt in prompts
    ]
    assert len(alone[0]) != len(alone[1])
    both = Generator(smollm32).generate(prompts, [Chain.base(30)] * 2, Decoding(24), stopping_criteria=criteria)
    assert both == alone


def test_stop_texts_end_a_row(smollm32: Backbone) -> None:
    prompts = [smollm32.tokenizer.encode(text) for text in ("The capital of France is", "Once upon a time")]
    chains = [Chain.base(30)] * 2
    free = Generator(smollm32).generate(prompts, chains, Decoding(40))
    stopped = Generator(smollm32).generate(prompts, chains, Decoding(40, stop=(".", ",")))
    for long, short in zip(free, stopped, strict=True):
        text = smollm32.tokenizer.decode(short)
        assert long[: len(short)] == short
        assert text.rstrip().endswith((".", ","))
        assert not any(mark in text[:-1] for mark in ".,")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens 0"),
        ({"temperature": -1}, "temperature -1"),
        ({"top_p": 0}, "top_p 0"),
        ({"top_k": -3}, "top_k -3"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Decoding(**wrong)  # type: ignore[arg-type]


def test_a_model_can_be_used_to_its_last_position() -> None:
    backbone = load("gpt2")
    backbone.model.generation_config.eos_token_id = -1
    prompt = [5 + index % 60 for index in range(54)]
    chain = Chain.parse("0 2-3", 4)
    found = Generator(backbone).generate([prompt], [chain], Decoding(10))
    assert found == Generator(backbone, cached=False).generate([prompt], [chain], Decoding(10))
    assert len(found[0]) == 10


def test_prompts_that_cannot_run_are_named(tiny: Backbone) -> None:
    with pytest.raises(UserError, match="no tokens"):
        Generator(tiny).generate([[]], [Chain.base(6)])
    with pytest.raises(UserError, match="exceed the 128 tokens that tiny reads"):
        Generator(tiny).generate([[5] * 100], [Chain.base(6)], Decoding(64))
