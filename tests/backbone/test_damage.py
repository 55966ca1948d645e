"""Models that are not what their files say are refused, and so are scores that are no numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.fingerprint import of_files, of_memory
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.tasks.questions import Question, as_sample
from tests.conftest import WordTokenizer, tiny_llama


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model with its tokenizer, as from_pretrained loads them."""
    tiny_llama().save_pretrained(tmp_path)
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<unk>").save_pretrained(tmp_path)
    return tmp_path


def reconfigure(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_a_whole_model_is_loaded(folder: Path) -> None:
    assert load_backbone(str(folder), "cpu", "float32").num_layers == 6


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"])
def test_any_change_of_its_files_is_another_model(folder: Path, name: str) -> None:
    """One bit anywhere in its weights; a space in its tokenizer or configuration."""
    before = of_files(str(folder))
    assert before == of_files(str(folder))
    content = bytearray((folder / name).read_bytes())
    if name.endswith(".json"):
        content += b" "
    else:
        content[len(content) * 3 // 4] ^= 1
    (folder / name).write_bytes(content)
    assert of_files(str(folder)) not in (before, None)


def test_one_weight_in_memory_is_another_model() -> None:
    model = tiny_llama()
    before = of_memory(model, WordTokenizer())
    with torch.no_grad():
        model.model.layers[3].mlp.down_proj.weight[-1, -1] += 1.0
    assert of_memory(model, WordTokenizer()) != before


def test_a_tokenizer_larger_than_the_vocabulary_is_one_line(folder: Path) -> None:
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 500}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<unk>").save_pretrained(folder)
    backbone = load_backbone(str(folder), "cpu", "float32")
    assert backbone.encoder.prompt("a") == [1]
    with pytest.raises(UserError, match="the tokenizer writes token 500, and the model knows 97"):
        backbone.encoder.prompt("a b")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 7}, r"has no weights for model.layers.6.* and 8 more"),
        ({"num_hidden_layers": 5}, r"has weights that its configuration has no place for: model.layers.5"),
        ({"attention_bias": True}, r"has no weights for model.layers.0.self_attn"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, values: dict[str, Any], message: str) -> None:
    reconfigure(folder, **values)
    with pytest.raises(UserError, match=message):
        load_backbone(str(folder), "cpu", "float32")


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    reconfigure(folder, vocab_size=50)
    with pytest.raises(UserError, match=r"backbone .* "):
        load_backbone(str(folder), "cpu", "float32")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_layer_that_holds_no_numbers_is_refused(value: float) -> None:
    model = tiny_llama()
    with torch.no_grad():
        model.model.layers[3].mlp.down_proj.weight[0, 0] = value
    with pytest.raises(UserError, match="backbone bad: logits of a short text are not finite in float32"):
        Backbone(model, WordTokenizer(), "bad")


def test_scores_that_are_no_numbers_are_an_error_that_names_where() -> None:
    backbone = Backbone(tiny_llama(), WordTokenizer(), "tiny")
    scorer = OptionScorer(Executor(backbone))
    for name in ("1", "2"):
        scorer.open(as_sample(Question("t", "s", name, f"one two {name}", ("three four", "five"), 0)))
    with torch.no_grad():
        backbone.layers[3].mlp.down_proj.weight[0, 0] = float("nan")
    without, base = Chain.parse("0-2 4-5", 6), Chain.base(6)
    assert scorer.score([("t/s/1", without)])[0].choice in (0, 1)
    with pytest.raises(UserError, match=r"question t/s/2: scores through chain 0-5 are not finite in float32"):
        scorer.score([("t/s/1", without), ("t/s/2", base)])
