"""Invariant 3: generation with a slot per visit equals generation without any cache."""

import pytest
import torch

from cola_learn.backbone import Backbone
from cola_learn.backbone.generate import generate
from cola_learn.chains import Chain
from tests.architectures import wild_chains
from tests.backbone.test_replay import build
from tests.conftest import WordTokenizer


@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Qwen3Moe", "Olmo2", "Gemma2", "Mistral", "GPTNeoX", "Phi3"])
def test_cached_generation_equals_uncached(name: str) -> None:
    backbone = Backbone(build(name), WordTokenizer(), name)
    prompt = [5, 17, 60, 33, 8, 21, 40, 9, 77, 12]
    for chain in wild_chains(4):
        cached = generate(backbone, prompt, chain, 12, cached=True)
        assert cached == generate(backbone, prompt, chain, 12, cached=False), str(chain)


def test_base_chain_generates_what_the_model_does(smollm32: Backbone) -> None:
    tokens = smollm32.tokenizer.encode("The capital of France is")
    expected = smollm32.model.generate(torch.tensor([tokens]), max_new_tokens=16, do_sample=False)
    assert generate(smollm32, tokens, Chain.base(30), 16) == expected[0, len(tokens) :].tolist()


def test_looping_chain_on_the_embedded_model(smollm32: Backbone) -> None:
    tokens = smollm32.tokenizer.encode("The capital of France is")
    chain = Chain.parse("0-8 (9-10)x2 11-20 23-29", 30)
    assert generate(smollm32, tokens, chain, 12) == generate(smollm32, tokens, chain, 12, cached=False)
