"""Drafts by chains: what is written is what the plain model writes."""

from pathlib import Path

import pytest
import torch

from cola_learn import Chain, ColaForCausalLM
from cola_learn.infer.apart import draft_of, generate_drafted
from tests.architectures import tiny_model

MENU = Path(__file__).parents[2] / "checkpoints" / "menu"


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma3_text", "gpt2"])
def test_drafts_change_no_token(model_type: str) -> None:
    """Padded rows, chains that skip and repeat, greedy."""
    model = tiny_model(model_type).eval()
    rows = torch.tensor([[0, 0, 5, 17, 30], [9, 3, 33, 8, 61], [0, 7, 7, 50, 2]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    settings = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    plain = model.generate(rows, attention_mask=mask, **settings)
    chains = [Chain.parse(text, 4) for text in ("0-1 3", "0-3", "0 (1)x2 2-3")]
    asked = {"input_ids": rows, "attention_mask": mask, **settings}
    drafted = generate_drafted(model, chains, asked, model.generation_config)
    assert torch.equal(drafted, plain)
    draft = draft_of(model, chains[0])
    shared = {id(weight) for weight in model.parameters()}
    assert all(id(weight) in shared for weight in draft.parameters())
    assert model.config.get_text_config().num_hidden_layers == 4


def test_a_controller_drafts() -> None:
    model = ColaForCausalLM.from_pretrained(MENU, dtype=torch.float32)
    prompts = ["Question: What do plants need to grow?\nAnswer:", "Once upon a time"]
    base = Chain.base(30)
    plain = model.write(prompts, chain=base, max_new_tokens=12)
    assert model.write(prompts, price=0.15, draft=True, max_new_tokens=12) == plain
    assert model.write(prompts, price=0.15, max_new_tokens=12) != plain
    with pytest.raises(ValueError, match="num_beams is not supported with draft"):
        model.write(prompts[0], draft=True, num_beams=2)
