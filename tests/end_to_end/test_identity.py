"""What a thing is, is told by its content: files of one name, weights and settings that changed, caches of a chain."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from cola_learn import ColaForCausalLM, LabelStore, apply_chain, assets
from cola_learn.backbone.apply_chain import apply_chains
from cola_learn.backbone.fingerprint import of_files
from cola_learn.errors import UserError
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.inputs import open_inputs
from cola_learn.label.manifest import settings_by_content
from cola_learn.search.mcts import MCTS
from cola_learn.train.data import LabelDataModule
from tests.architectures import tiny_model
from tests.end_to_end.conftest import save_tiny
from tests.end_to_end.test_changed_files import QUICK, write

Command = Callable[..., tuple[int, str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of two files that are both called train.jsonl, their rows without ids."""
    from tests.end_to_end.conftest import run

    folder = tmp_path_factory.mktemp("two")
    for name, start in (("physics", 0), ("history", 8)):
        (folder / name).mkdir()
        file = write(folder / name / "train.jsonl", start, 8)
        run("label", "--tasks", file, "--output", folder / "all" / name, *QUICK)
    return folder


def test_files_of_one_name_do_not_mix(two: Path, command: Command) -> None:
    data = LabelDataModule(two / "all", trials="all")
    data.setup("fit")
    questions = {
        name: {question.digest for question in LabelStore.open(two / "all" / name).questions().values()}
        for name in ("physics", "history")
    }
    assert {question.digest for question in data._questions.values()} == set.union(*questions.values())
    for store in data.stores:
        for label in store:
            assert data._questions[label.key].digest == label.digest
    prompts = {tuple(example.features.flatten().tolist()) for example in data.examples}
    assert len(prompts) == 16
    tiny = ("--model.width", "16", "--model.blocks", "1", "--model.heads", "1", "--trainer.max_epochs", "1")
    code, said = command(
        *("cola_learn.train", "--labels", two / "all", "--output", two / "train", "--data.trials", "all"),
        *(*tiny, "--model.objective", "imitation", "--tracking", "disabled"),
    )
    assert code == 0, said


def test_extra_labels_of_another_file_of_one_name_do_not_mix(two: Path) -> None:
    data = LabelDataModule(two / "all" / "physics", two / "all" / "history", trials="all")
    assert len(data._questions) == 16


def test_a_file_of_the_name_of_the_labels_may_be_held_out(two: Path) -> None:
    options = EvaluateOptions(
        labels=two / "all" / "physics", controllers=[], tasks=[str(two / "history" / "train.jsonl")]
    )
    from cola_learn.evaluate.inputs import held_out

    found = held_out(options, [LabelStore.open(two / "all" / "physics")])
    assert len(found.questions) == 8


def test_a_label_file_without_its_digest_is_not_read(two: Path, tmp_path: Path) -> None:
    for file in (two / "all" / "physics").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    [file] = tmp_path.glob("scores-*.parquet")
    file.rename(tmp_path / "labels.parquet")
    with pytest.raises(UserError, match=r"labels.parquet cannot be read.*its name does not end in"):
        LabelStore.open(tmp_path).read()


def test_a_loaded_backbone_of_other_weights_is_refused() -> None:
    menu = ROOT / "checkpoints" / "menu"
    loaded = AutoModelForCausalLM.from_pretrained(assets.model_folder(), dtype=torch.float32)
    ColaForCausalLM.from_pretrained(menu, backbone=loaded)
    with torch.no_grad():
        loaded.model.layers[7].self_attn.q_proj.weight[3, 5] += 1
    with pytest.raises(UserError, match=r"model.layers.7.self_attn.q_proj.weight of the loaded backbone is not what"):
        ColaForCausalLM.from_pretrained(menu, backbone=loaded)
    with pytest.raises(UserError, match="the controller is for 30 layers"):
        ColaForCausalLM.from_pretrained(menu, backbone=tiny_model("llama"), tokenizer=object())


@pytest.mark.parametrize("name", ["generation_config.json", "config.json", "model.safetensors", "tokenizer.json"])
def test_a_fingerprint_is_of_all_that_answers_depend_on(name: str, tmp_path: Path) -> None:
    """Whatever the size and the time of the changed file say."""
    save_tiny(tmp_path, 4)
    before, status, content = of_files(str(tmp_path)), (tmp_path / name).stat(), (tmp_path / name).read_bytes()
    assert before == of_files(str(tmp_path))
    (tmp_path / name).write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    os.utime(tmp_path / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert of_files(str(tmp_path)) != before
    (tmp_path / name).write_bytes(content)
    assert of_files(str(tmp_path)) == before


def test_an_evaluation_is_another_when_its_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "from cola_learn.evaluate.policies import Policy\nMINE = Policy('mine', lambda some: ['0-29'] * len(some))\n"
    (tmp_path / "mine_policy.py").write_text(code)
    menu = ROOT / "data" / "menu"
    options = EvaluateOptions(
        labels=menu / "pool",
        held=menu / "held",
        controllers=[ROOT / "checkpoints" / "menu"],
        policies=["mine_policy.MINE"],
    )
    inputs = open_inputs(options)
    before = inputs.identity()
    assert inputs.identity() == before
    (tmp_path / "mine_policy.py").write_text(code + "# changed\n")
    assert inputs.identity() != before


def test_a_search_is_another_when_its_prior_is(tmp_path: Path) -> None:
    prior = tmp_path / "prior.jsonl"
    prior.write_text("{}\n")
    before = settings_by_content(MCTS(prior=prior))
    prior.write_text("{} \n")
    assert settings_by_content(MCTS(prior=prior)) != before


CHAINS = ("0-3", "0 2-3", "0-1 3", "0-1 (2)x2 3")


def begun(model: Any, chain: str | None, tokens: torch.Tensor, cache: Any = None) -> Any:
    if chain is None:
        return model(tokens, past_key_values=cache, use_cache=True)
    with apply_chain(model, chain):
        return model(tokens, past_key_values=cache, use_cache=True)


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "qwen3", "gpt2"])
@torch.no_grad()
def test_a_cache_goes_on_through_its_own_chain_only(model_type: str) -> None:
    model = tiny_model(model_type)
    first, then = torch.randint(3, 97, (2, 1, 6), generator=torch.Generator().manual_seed(0))
    for chain in (None, *CHAINS):
        whole = begun(model, chain, torch.cat([first, then], 1)).logits[:, -6:]
        again = begun(model, chain, then, begun(model, chain, first).past_key_values).logits
        assert torch.allclose(again, whole, atol=1e-4)
        for other in (None, *CHAINS):
            if (other or CHAINS[0]) != (chain or CHAINS[0]):
                with pytest.raises(ValueError, match="past_key_values were written through chain"):
                    begun(model, other, then, begun(model, chain, first).past_key_values)


@torch.no_grad()
def test_generation_goes_on_with_the_cache_of_its_chain() -> None:
    model = tiny_model("llama")
    prompt = torch.randint(3, 97, (1, 6), generator=torch.Generator().manual_seed(0))
    settings: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "return_dict_in_generate": True}
    with apply_chain(model, CHAINS[1]):
        found = model.generate(prompt, **settings)
        longer = torch.cat([found.sequences, prompt], 1)
        again = model.generate(longer, past_key_values=found.past_key_values, **settings)
        assert torch.equal(again.sequences, model.generate(longer, **settings).sequences)
    with apply_chain(model, CHAINS[2]), pytest.raises(ValueError, match="begin without a cache"):
        model.generate(longer, past_key_values=found.past_key_values, **settings)


@torch.no_grad()
def test_rows_of_other_chains_do_not_go_on_with_a_cache() -> None:
    from cola_learn import Chain

    model = tiny_model("llama")
    tokens = torch.randint(3, 97, (2, 6), generator=torch.Generator().manual_seed(0))
    one, other = (Chain.parse(text, 4) for text in CHAINS[1:3])
    with apply_chains(model, [one, other]):
        cache = model(tokens, use_cache=True).past_key_values
    with apply_chains(model, [other, one]), pytest.raises(ValueError, match="written through chain"):
        model(tokens, past_key_values=cache, use_cache=True)


def test_prompts_may_be_read_in_pieces() -> None:
    """``prefill_chunk_size``, with rows of different chains and of one."""
    model = ColaForCausalLM.from_pretrained(ROOT / "checkpoints" / "menu", dtype=torch.float32)
    batch = model.tokenizer(
        ["Which of these rusts?", "What do plants need?"], return_tensors="pt", padding=True, padding_side="left"
    )
    settings: dict[str, Any] = {**batch, "max_new_tokens": 3, "do_sample": False}
    for own in ({"chain": "0-17 20-29"}, {"price": 0.15}):
        pieces = model.generate(prefill_chunk_size=3, **settings, **own)
        assert torch.equal(pieces, model.generate(**settings, **own))
