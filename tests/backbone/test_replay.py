"""Invariants 1 and 2: replay is the model, for any order of its layers."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate import cpu_offload, disk_offload

from benchmarks.baselines import plain_model
from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.generate import Generator
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from tests.architectures import rebuilt_logits, replayed_logits, wild_chains
from tests.conftest import IN_BFLOAT16, WordTokenizer, tiny_llama

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
WINDOW = {"sliding_window": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {},
    "Qwen2Moe": {**EXPERTS, "shared_expert_intermediate_size": 16},
    "Qwen3Moe": EXPERTS,
    "Mistral": WINDOW,
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Gemma2": {**WINDOW, "final_logit_softcapping": 3.0},
    "Gemma3Text": WINDOW,
    "Phi": {},
    "Phi3": {},
    "Olmo2": {},
    "Olmo3": WINDOW,
    "Olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "StableLm": {},
    "Cohere": {},
    "Granite": {"logits_scaling": 2.0, "residual_multiplier": 0.5},
    "SmolLM3": {},
    "Starcoder2": {},
    "GPT2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "GPTNeoX": {},
    "Bloom": {"n_layer": 4, "n_head": 4},
    "Mamba": {"state_size": 8},
}


def build(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **ARCHITECTURES[name], **more})
    family = "Gemma3" if name == "Gemma3Text" else name
    model_class = getattr(transformers, f"{family}LMHeadModel", None) or getattr(transformers, f"{family}ForCausalLM")
    return model_class(config).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_chain_equals_the_rebuilt_model(name: str) -> None:
    model = build(name)
    backbone = Backbone(model, WordTokenizer(), name)
    tokens = torch.randint(3, 97, (1, 19))
    with torch.inference_mode():
        plain = model(input_ids=tokens, use_cache=False).logits[0]
    assert torch.allclose(replayed_logits(backbone, Chain.base(4), tokens), plain, atol=1e-5)
    for chain in wild_chains(4):
        expected = rebuilt_logits(model, chain, tokens)
        assert torch.allclose(replayed_logits(backbone, chain, tokens), expected, atol=1e-4), str(chain)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=IN_BFLOAT16)])
def test_embedded_model_replays_exactly(dtype: str, request: pytest.FixtureRequest) -> None:
    backbone: Backbone = request.getfixturevalue("smollm32" if dtype == "float32" else "smollm16")
    tokens = torch.tensor([backbone.tokenizer.encode("Question: Which of these metals rusts when it is left outside?")])
    tokens = tokens.repeat(1, 10)[:, :100]  # a length with which products round as in the executor's calls
    for text in ("0-29", "0-11 14-19 (20)x2 21-29", "0-8 (9-12)x3 13-25"):
        chain = Chain.parse(text, 30)
        expected = rebuilt_logits(backbone.model, chain, tokens)
        assert torch.equal(replayed_logits(backbone, chain, tokens), expected), text


@pytest.mark.parametrize("dtype", [pytest.param("bfloat16", marks=IN_BFLOAT16)])
def test_prepacked_weights_say_the_same(dtype: str, smollm16: Backbone) -> None:
    """Against a copy with the prepacking taken off."""
    plain = plain_model(smollm16)
    tokens = torch.tensor([smollm16.tokenizer.encode("Which of these metals rusts when it is left outside?")])
    with torch.inference_mode():
        found, expected = (model(input_ids=tokens).logits.float() for model in (smollm16.model, plain))
    assert (found - expected).abs().max() < 0.5
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.9


def test_model_is_left_as_it_was(tiny: Backbone) -> None:
    tokens = torch.randint(3, 97, (1, 8))
    before = tiny.model(input_ids=tokens).logits
    with pytest.raises((RuntimeError, TypeError)):
        tiny.record_inputs(input_ids=tokens, attention_mask=torch.ones(3, 3, 3))
    assert all("forward" not in vars(layer) for layer in tiny.layers)
    assert torch.equal(tiny.model(input_ids=tokens).logits, before)


def test_sequence_state_and_windows_are_not_packed() -> None:
    assert Backbone(build("Llama"), WordTokenizer(), "a").capabilities.shares_prompts
    for name in ("Mamba", "Mistral", "Bloom"):
        assert not Backbone(build(name), WordTokenizer(), name).capabilities.shares_prompts, name


@pytest.mark.parametrize("dtype", [pytest.param("bfloat16", marks=IN_BFLOAT16)])
def test_fingerprint_is_the_same_in_every_precision(dtype: str, smollm32: Backbone, smollm16: Backbone) -> None:
    assert smollm32.fingerprint == smollm16.fingerprint


def test_fingerprint_tells_models_apart(smollm32: Backbone) -> None:
    assert Backbone(tiny_llama(4), WordTokenizer(), "a").fingerprint != smollm32.fingerprint


def test_unsuitable_models_are_refused_by_name() -> None:
    model = tiny_llama()
    model.config.num_hidden_layers = 5
    with pytest.raises(UserError, match="backbone odd: found 0 lists of 5 layers"):
        Backbone(model, WordTokenizer(), "odd")


def test_weights_that_live_elsewhere(tmp_path: Path) -> None:
    """Weights on the host or on disk, brought in layer by layer by accelerate: same model, same logits."""
    usual = Backbone(tiny_llama(), WordTokenizer(), "usual")
    offloads = {
        "host": lambda model: cpu_offload(model, execution_device=torch.device("cpu")),
        "disk": lambda model: disk_offload(model, tmp_path, execution_device=torch.device("cpu")),
    }
    tokens = torch.randint(3, 97, (1, 24))
    chain = Chain.parse("0 2 (3)x2 5", 6)
    for place, offload in offloads.items():
        model = tiny_llama().eval()
        offload(model)
        backbone = Backbone(model, WordTokenizer(), place)
        assert all(weight.is_meta for weight in model.parameters())
        assert backbone.fingerprint == usual.fingerprint
        assert torch.equal(replayed_logits(backbone, chain, tokens), replayed_logits(usual, chain, tokens))
        generator = Generator(backbone)
        assert generator.cached
        assert generator.generate([[5, 6]], [chain]) == Generator(usual).generate([[5, 6]], [chain])


@pytest.mark.parametrize(
    ("device", "dtype"), [("split", "float32"), pytest.param("cpu", "float16", marks=pytest.mark.slow)]
)
def test_other_places_and_precisions(device: str, dtype: Dtype, smollm32: Backbone) -> None:
    backbone = load_backbone(device=device, dtype=dtype)
    assert backbone.dtype_name == dtype
    tokens = torch.tensor([smollm32.tokenizer.encode("Which of these metals rusts when it is left outside in rain?")])
    for text in ("0-29", "0-11 14-19 (20)x2 21-29") if dtype == "float32" else ("0-11 14-19 (20)x2 21-29",):
        chain = Chain.parse(text, 30)
        found, expected = (replayed_logits(model, chain, tokens).float() for model in (backbone, smollm32))
        assert (found - expected).abs().max() < (1e-3 if dtype == "float32" else 0.3)
