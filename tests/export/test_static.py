"""Static chains as checkpoints, of every architecture: written so that plain transformers loads them, or refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from cola_learn import Chain
from cola_learn.errors import UserError
from cola_learn.export.static import StaticChain, save_static
from tests.architectures import LAYERS, TOLERANCE, rebuilt_logits, tiny_model
from tests.backbone.test_architectures import SOUND, broad
from tests.end_to_end.conftest import save_tiny

CHAINS = ("0 2-3", "1-3", "0-1 (2)x2 3")
TOKENS = torch.randint(3, 97, (1, 24), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tiny(folder, LAYERS)
    for file in (*folder.glob("*.safetensors"), folder / "config.json", folder / "generation_config.json"):
        file.unlink()
    return folder


def saved(model: Any, tokenizer: Path, folder: Path) -> str:
    model.save_pretrained(folder)
    for file in tokenizer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return str(folder)


@pytest.mark.parametrize("model_type", broad(SOUND))
def test_what_is_written_loads_as_the_chain_or_is_refused(model_type: str, tokenizer: Path, tmp_path: Path) -> None:
    model = tiny_model(model_type)
    try:
        source = saved(model, tokenizer, tmp_path / "model")
        again = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    except Exception as error:
        pytest.skip(f"transformers does not save and load it: {error}")
    for number, text in enumerate(CHAINS):
        folder = tmp_path / str(number)
        try:
            save_static(source, StaticChain(text, source), folder)
        except UserError:
            assert not folder.exists()
            continue
        found, loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        assert not loaded["missing_keys"]
        with torch.inference_mode():
            logits = found.eval()(input_ids=TOKENS, use_cache=False).logits[0]
        expected = rebuilt_logits(again.eval(), Chain.parse(text, LAYERS), TOKENS)
        assert float((logits - expected).abs().max()) <= TOLERANCE * 10 * float(expected.abs().max())


@pytest.mark.parametrize("model_type", ["llama", "qwen3_moe", "gemma3_text", "gpt2", "mamba", "hunyuan_v1_moe"])
def test_most_are_written(model_type: str, tokenizer: Path, tmp_path: Path) -> None:
    source = saved(tiny_model(model_type), tokenizer, tmp_path / "model")
    save_static(source, StaticChain("0 2-3", source), tmp_path / "static")


def test_a_mixture_that_is_dense_in_places_keeps_its_layers_dense(tokenizer: Path, tmp_path: Path) -> None:
    """Qwen 3's settings name dense layers by their places."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16, "num_attention_heads": 4}
    more = {"num_hidden_layers": 6, "num_experts": 4, "num_experts_per_tok": 2, "vocab_size": 97, "head_dim": 8}
    torch.manual_seed(0)
    config = Qwen3MoeConfig(**sizes, **more, num_key_value_heads=2, decoder_sparse_step=2, mlp_only_layers=[3])
    model = Qwen3MoeForCausalLM(config).eval()
    source = saved(model, tokenizer, tmp_path / "model")
    save_static(source, StaticChain("0-1 3 5 4", source), tmp_path / "static")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "static", dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = found(input_ids=TOKENS, use_cache=False).logits[0]
    assert torch.allclose(logits, rebuilt_logits(model, Chain.parse("0-1 3 5 4", 6), TOKENS), atol=1e-4)


def test_a_checkpoint_without_its_head_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = saved(tiny_model("llama"), tokenizer, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    del weights["lm_head.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"has no weights for lm_head\.weight"):
        save_static(source, StaticChain("0 2-3", source), tmp_path / "static")
    assert not (tmp_path / "static").exists()
