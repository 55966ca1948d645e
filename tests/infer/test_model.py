"""Choosing and writing go together, for one prompt and for several, with the controller of the repository."""

from pathlib import Path

import pytest

from cola_learn import Backbone, Chain, ColaForCausalLM, Controller, Decoding

PROMPTS = [
    "Question: Which of these rusts?\nAnswer:",
    "Question: What do plants need to grow?\nAnswer:",
    "Once upon a time",
]


@pytest.fixture(scope="module")
def model(smollm32: Backbone) -> ColaForCausalLM:
    return ColaForCausalLM(smollm32, Controller.from_pretrained(Path(__file__).parents[2] / "checkpoints" / "menu"))


def test_several_prompts_get_what_each_gets_alone(model: ColaForCausalLM) -> None:
    decoding = Decoding(max_new_tokens=6)
    chains = [model.choose(prompt) for prompt in PROMPTS]
    assert len(set(chains)) > 1  # else the test says little
    alone = [model.generate(prompt, chain, decoding) for prompt, chain in zip(PROMPTS, chains, strict=True)]
    assert model.generate(PROMPTS, decoding=decoding) == alone


def test_a_price_sets_how_deep_text_is_written(model: ColaForCausalLM) -> None:
    decoding = Decoding(max_new_tokens=6)
    cheap, dear = (model.choose(PROMPTS[0], price) for price in (0.0, 1.0))
    assert dear.depth < cheap.depth
    assert model.generate(PROMPTS[0], decoding=decoding, price=1.0) == model.generate(PROMPTS[0], dear, decoding)
    assert model.generate(PROMPTS[0], Chain.base(30), decoding, price=1.0) == model.generate(
        PROMPTS[0], Chain.base(30), decoding
    )
