"""Static chains as GGUF files, read back by transformers."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from cola_learn import Chain
from cola_learn.errors import UserError
from cola_learn.export.gguf import CONVERTER, save_gguf
from cola_learn.export.static import StaticChain, save_static, uneven_lists
from tests.architectures import tiny_model
from tests.end_to_end.conftest import save_tiny

TOKENS = torch.arange(40, 60)[None]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    save_tiny(folder / "model", 4)
    save_static(str(folder / "model"), StaticChain("0 (2)x2 3", str(folder / "model")), folder / "static")
    return folder / "static"


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter on the PATH, under llama.cpp's name."""
    program = tmp_path / CONVERTER
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("llama_to_gguf.py")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.mark.usefixtures("converter")
def test_a_gguf_file_is_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    save_gguf(checkpoint, tmp_path / "static.gguf")
    found = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="static.gguf", dtype=torch.float32)
    expected = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    assert found.config.num_hidden_layers == 4
    with torch.inference_mode():
        assert torch.allclose(found(TOKENS).logits, expected(TOKENS).logits, atol=1e-4)
    assert {file.name for file in tmp_path.iterdir()} == {"static.gguf", CONVERTER}
    with pytest.raises(UserError, match=r"static.gguf is there already; name another file"):
        save_gguf(checkpoint, tmp_path / "static.gguf")


@pytest.mark.usefixtures("converter")
def test_another_model_is_not_written(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEFT_OUT", "1")
    with pytest.raises(UserError, match=r"is not written: read back, it continues .* with .*, the checkpoint with"):
        save_gguf(checkpoint, tmp_path / "static.gguf")
    assert not (tmp_path / "static.gguf").exists()


@pytest.mark.usefixtures("converter")
def test_a_converter_that_fails_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / CONVERTER).write_text("#!/bin/sh\necho Traceback >&2\necho no such architecture >&2\nexit 3\n")
    with pytest.raises(UserError, match=rf"{CONVERTER} failed with exit code 3: no such architecture$"):
        save_gguf(checkpoint, tmp_path / "static.gguf")


def test_without_a_converter_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=rf"--gguf needs {CONVERTER} on the PATH; it is a part of llama.cpp"):
        save_gguf(tmp_path, tmp_path / "static.gguf")


def test_lists_by_layer_that_lose_their_period_are_named() -> None:
    config = tiny_model("gemma3_text").config
    config.num_hidden_layers, config.layer_types = 6, ["sliding_attention", "sliding_attention", "full_attention"] * 2
    assert uneven_lists(config, Chain.parse("0-2", 6)) == []
    assert uneven_lists(config, Chain.parse("0-4", 6)) == []
    assert uneven_lists(config, Chain.parse("0-1 3-5", 6)) == ["layer_types"]
    assert uneven_lists(tiny_model("llama").config, Chain.parse("0 2-3", 4)) == []
