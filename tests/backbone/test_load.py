"""What people bring as a backbone: adapters, GGUF files, templates that refuse; read, or refused in one line."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cola_learn import assets
from cola_learn.backbone.fingerprint import of_files
from cola_learn.backbone.load import fingerprint_of, load_backbone, locate, max_tokens_of
from cola_learn.backbone.tokens import chat_text
from cola_learn.errors import UserError
from cola_learn.rewards.prompts import Prompt
from tests.end_to_end.conftest import save_tiny


def test_an_adapter_is_merged_into_its_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from peft import LoraConfig, get_peft_model

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    save_tiny(base, 4)
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(plain, LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    tuned.save_pretrained(adapter)
    tokens = torch.randint(3, 90, (1, 9))
    with torch.inference_mode():
        expected = tuned.eval()(tokens).logits
        found = load_backbone(str(adapter), dtype="float32")
        assert torch.allclose(found.model(tokens).logits, expected, atol=1e-4)
    assert f"an adapter, merged into {base}" in capsys.readouterr().err
    assert found.fingerprint == fingerprint_of(str(adapter)) != fingerprint_of(str(base))
    assert max_tokens_of(str(adapter)) == max_tokens_of(str(base))
    before = of_files(str(adapter))
    (base / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert of_files(str(adapter)) != before  # another base


def test_gguf_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "one.gguf").write_bytes(b"GGUF")
    assert locate(str(tmp_path / "one.gguf")) == locate(str(tmp_path)) == (str(tmp_path), {"gguf_file": "one.gguf"})
    assert of_files(str(tmp_path)) == of_files(str(tmp_path / "one.gguf"))
    with pytest.raises(UserError, match=r"backbone .*one.gguf has no tokenizer that can be loaded"):
        load_backbone(str(tmp_path / "one.gguf"))
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"holds 2 GGUF files; name one of them, such as .*one.gguf"):
        locate(str(tmp_path))


def templated(template: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(assets.model_folder())
    tokenizer.chat_template = template
    return tokenizer


STRICT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system role') }}{% endif %}{% endfor %}"
)
HOSTILE = ("{{ messages[7].content.foo() }}", "{% for %}", "{{ ''.__class__.__mro__[1].__subclasses__() }}")


@pytest.mark.parametrize("template", [STRICT, *HOSTILE])
def test_a_template_that_refuses_is_one_line(template: str) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    with pytest.raises(UserError, match="the model's chat template does not take turns of system, user") as error:
        chat_text(templated(template), turns)
    assert "\n" not in str(error.value)


def test_options_reach_the_template() -> None:
    tokenizer = templated(
        "{{ messages[0].content }}{% if enable_thinking is defined and not enable_thinking %} /no{% endif %}|"
    )
    assert Prompt(ask="{question}", begin="A").text("Why?", tokenizer) == "Why?|A"
    quiet = Prompt(ask="{question}", begin="A", template_options={"enable_thinking": False})
    assert quiet.text("Why?", tokenizer) == "Why? /no|A"
    assert hash(quiet) == hash(Prompt(ask="{question}", begin="A"))


def test_a_quantized_checkpoint_without_its_library_is_one_line(tmp_path: Path) -> None:
    save_tiny(tmp_path, 4)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"backbone .* cannot be loaded \(") as error:
        load_backbone(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_template_without_turns_is_named() -> None:
    with pytest.raises(UserError, match="does not take turns of user"):
        chat_text(SimpleNamespace(), [{"role": "user", "content": "Why?"}])
