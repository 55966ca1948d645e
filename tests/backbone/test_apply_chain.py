"""A chain inside a transformers model, held against the executor, a rebuilt model, and generation without any cache."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer, pipeline

from cola_learn import Chain, Executor, Row, apply_chain, assets
from cola_learn.backbone.backbone import Backbone
from cola_learn.errors import UserError
from cola_learn.export.static import as_mergekit
from tests.architectures import TOLERANCE, rebuilt_logits, tiny_model, wild_chains
from tests.backbone.test_architectures import SLOTS, broad

Command = Callable[..., tuple[int, str]]
BY_PLACE = {"gemma4"}  # has an input of its own for every layer
CHAIN = "0-11 14-19 (20)x2 21-29"


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(assets.model_folder(), dtype=torch.float32, trust_remote_code=False)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(assets.model_folder(), trust_remote_code=False)


def executed(backbone: Backbone, chain: Chain, tokens: torch.Tensor) -> torch.Tensor:
    executor = Executor(backbone, cache_bytes=0)
    handle = executor.open(Row.plain(tokens[0].tolist()))
    [hidden] = executor.run([(handle, chain)])
    return backbone.finish(hidden)


@pytest.mark.parametrize("text", [CHAIN, "0-29", "0-5 (6-9)x3 10-29", "29 3 3 3 0"])
def test_it_is_what_the_executor_runs(text: str, model: Any, tokenizer: Any, smollm32: Backbone) -> None:
    tokens = tokenizer("Question: Which metal rusts?\nAnswer: iron", return_tensors="pt")["input_ids"]
    with apply_chain(model, text) as applied, torch.inference_mode():
        logits = applied(tokens).logits[0]
    expected = executed(smollm32, Chain.parse(text, 30), tokens)
    assert torch.allclose(logits, expected, atol=2e-4, rtol=1e-4)


def written(model: Any, tokens: torch.Tensor, cached: bool) -> list[list[int]]:
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "use_cache": cached}
    return list(model.generate(tokens, **settings).tolist())


@pytest.mark.parametrize("model_type", broad([name for name, slotted in SLOTS.items() if slotted]))
def test_every_architecture_with_slots(model_type: str) -> None:
    """Logits as of a model rebuilt in that order; greedy text with the key-value cache as without any."""
    tiny = tiny_model(model_type).eval()
    tokens = torch.tensor([[5, 17, 30, 8, 61, 12, 44]])
    before = tiny.config.to_dict()
    if model_type in BY_PLACE:
        with pytest.raises(UserError, match="depends on the layer index"):
            apply_chain(tiny, "0-3")
        return
    with torch.inference_mode():
        own = tiny(input_ids=tokens, use_cache=False).logits
        exact = written(tiny, tokens, True) == written(tiny, tokens, False)  # not of every plain model
        for chain in wild_chains(4):
            expected = rebuilt_logits(tiny, chain, tokens)
            with apply_chain(tiny, chain):
                found = tiny(input_ids=tokens, use_cache=False).logits[0]
                texts = [written(tiny, tokens, cached) for cached in (True, False)]
            assert float((found - expected).abs().max() / expected.abs().max()) <= TOLERANCE, chain
            assert texts[0] == texts[1] or not exact, chain
        assert torch.equal(tiny(input_ids=tokens, use_cache=False).logits, own)
    assert tiny.config.to_dict() == before


def test_the_models_own_layers_come_back(model: Any) -> None:
    layers, config, names = list(model.model.layers), model.config.to_dict(), list(model.state_dict())

    def fail_within() -> None:
        with apply_chain(model, CHAIN):
            assert len(model.model.layers) == 29
            assert list(model.state_dict()) == names  # of the model's own layers, the skipped ones too
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert list(model.model.layers) == layers
    assert model.config.to_dict() == config


def test_a_batch_with_padding_is_its_rows(model: Any, tokenizer: Any) -> None:
    tokenizer.padding_side = "left"
    prompts = ["Water boils at", "The capital of the country whose flag has a red leaf is", "Plants"]
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": tokenizer.eos_token_id}
    with apply_chain(model, CHAIN):
        together = model.generate(**tokenizer(prompts, return_tensors="pt", padding=True), **settings)
        alone = [model.generate(**tokenizer(prompt, return_tensors="pt"), **settings)[0, -8:] for prompt in prompts]
    assert together[:, -8:].tolist() == [row.tolist() for row in alone]


def test_what_people_do_with_a_model(model: Any, tokenizer: Any) -> None:
    """A pipeline, a streamer, sampling, beams, a gradient, assisted decoding: all through the chain."""
    tokens = tokenizer("The sky is", return_tensors="pt")
    with apply_chain(model, "0-17 20-29"):
        greedy = model.generate(**tokens, max_new_tokens=6, do_sample=False)
        text = pipeline("text-generation", model=model, tokenizer=tokenizer)(
            "The sky is", max_new_tokens=6, do_sample=False, return_full_text=True
        )[0]["generated_text"]
        assert text == tokenizer.decode(greedy[0], skip_special_tokens=True)
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=False, skip_special_tokens=True)
        model.generate(**tokens, max_new_tokens=6, do_sample=False, streamer=streamer)
        assert "".join(streamer) == text
        assert model.generate(**tokens, max_new_tokens=4, num_beams=2).shape[1] == tokens["input_ids"].shape[1] + 4
        model.requires_grad_(True)
        model(**tokens, labels=tokens["input_ids"]).loss.backward()
        used = {name.split(".")[2] for name, weight in model.named_parameters() if weight.grad is not None}
        assert {str(layer) for layer in (*range(18), *range(20, 30))} == used - {"weight"}
        model.zero_grad(set_to_none=True)
        model.requires_grad_(False)
    plain = model.generate(**tokens, max_new_tokens=6, do_sample=False)
    assert plain.tolist() != greedy.tolist()


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ("0-30", "layers are 0 to 29"),
        ("", "at least one layer"),
        (Chain.base(12), "is for 12 layers; the model has 30"),
    ],
)
def test_chains_that_are_not_for_it(chain: Any, message: str, model: Any) -> None:
    with pytest.raises(UserError, match=message):
        apply_chain(model, chain)
    assert len(model.model.layers) == 30


def test_infer_runs_a_given_chain(model: Any, tokenizer: Any) -> None:
    """What the command prints is what transformers writes through the applied chain."""
    question, chain = "What is the capital of France?", "0-16 (17)x2 18-29"
    ask = pipeline("text-generation", model=model, tokenizer=tokenizer)
    turns = [{"role": "user", "content": question}]
    settings = {"max_new_tokens": 16, "do_sample": False, "return_full_text": False}
    with apply_chain(model, chain):
        expected = ask(turns, **settings)[0]["generated_text"].strip()
    plain = ask(turns, **settings)[0]["generated_text"].strip()
    arguments = ["cola_learn.infer", question, "--chain", chain, "--dtype", "float32"]
    arguments += ["--decoding.max_new_tokens", "16"]
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines == [f"given   {chain}  (31 layers)", expected, "plain   0-29  (30 layers)", plain]


PLAIN = """
import sys
sys.modules["cola_learn"] = None
import torch
torch.set_num_threads(int(sys.argv[3]))  # bits are those of a number of threads
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
with torch.inference_mode():
    logits = model(**tokenizer("Water boils at one hundred", return_tensors="pt")).logits[0]
torch.save(logits, sys.argv[2])
"""


def test_a_static_checkpoint_needs_no_code_of_ours(
    command: Command, tmp_path: Path, model: Any, tokenizer: Any, smollm32: Backbone
) -> None:
    """Loaded by plain transformers in a process that cannot import cola_learn."""
    folder = tmp_path / "static"
    code, said = command("cola_learn.export", "--chain", CHAIN, "--output", folder)
    assert code == 0, said
    assert "29 of 30 layers" in said
    subprocess.run(
        [sys.executable, "-c", PLAIN, str(folder), str(tmp_path / "logits"), str(torch.get_num_threads())], check=True
    )
    found = torch.load(tmp_path / "logits", weights_only=True)
    tokens = tokenizer("Water boils at one hundred", return_tensors="pt")["input_ids"]
    with apply_chain(model, CHAIN), torch.inference_mode():
        assert torch.equal(found, model(tokens).logits[0])
    assert torch.allclose(found, executed(smollm32, Chain.parse(CHAIN, 30), tokens), atol=2e-4, rtol=1e-4)
    assert ModelCard.load(folder / "README.md").data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    config = json.loads((folder / "config.json").read_text())
    assert config["num_hidden_layers"] == 29
    assert {"README.md", "mergekit.yaml", "model.safetensors", "tokenizer.json"} <= {f.name for f in folder.iterdir()}
    code, said = command("cola_learn.export", "--chain", CHAIN, "--output", folder)
    assert code == 2
    assert "holds something already" in said


def test_mergekits_slices_are_the_chain() -> None:
    made = yaml.safe_load(as_mergekit("org/name", Chain.parse(CHAIN, 30), "float32"))
    layers = []
    for one in made["slices"]:
        [source] = one["sources"]
        layers += range(*source["layer_range"])
    assert tuple(layers) == Chain.parse(CHAIN, 30).layers
    assert made["merge_method"] == "passthrough"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--chain", "0-31"], "layers are 0 to 29"),
        ([], "one of them"),
        (["--chain", "0-29", "--checkpoint", "x"], "one of them"),
        (["--chain", "0-29", "--price", "1"], "a static chain has none"),
        (["--chain", "0-29", "--backbone", "./nowhere"], "backbone ./nowhere"),
    ],
)
def test_wrong_exports(arguments: list[str], message: str, command: Command, tmp_path: Path) -> None:
    code, said = command("cola_learn.export", *arguments, "--output", tmp_path / "out")
    assert code == 2, said
    assert message in said
    assert not (tmp_path / "out").exists()
