"""A chain inside a model that is trained: PEFT's adapters and TRL's trainers see a model that runs the chain, whose
weights have the names of the model's own layers."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from cola_learn import apply_chain, assets

CHAIN = "0-2 (3)x2 27-29"  # a short one: training runs it forth and back
USED = {"0", "1", "2", "3", "27", "28", "29"}
LORA = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
PAIRS = {"prompt": ["Plants need", "Iron"], "chosen": [" light.", " rusts."], "rejected": [" sand.", " sings."]}


@pytest.fixture
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(assets.model_folder(), dtype=torch.float32, trust_remote_code=False)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(assets.model_folder(), trust_remote_code=False)


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    common = {"max_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no"}
    return {"output_dir": str(folder), "logging_steps": 1, "per_device_train_batch_size": 2, **common, **more}


def test_adapters_learn_on_a_chain(model: Any, tokenizer: Any) -> None:
    with apply_chain(model, CHAIN) as applied:
        adapted = get_peft_model(applied, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
        tokens = tokenizer("Plants need light.", return_tensors="pt")
        optimizer = torch.optim.SGD([one for one in adapted.parameters() if one.requires_grad], 0.5)
        losses = []
        for _ in range(3):
            loss = adapted(**tokens, labels=tokens["input_ids"]).loss
            loss.backward()
            learnt = {
                name.split(".layers.")[1].split(".")[0]
                for name, one in adapted.named_parameters()
                if one.grad is not None
            }
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
    assert learnt == USED
    assert losses[2] < losses[0]


def test_adapters_go_to_the_layers_that_they_are_of(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """Saved under a chain, loaded under it again, and merged: a layer that runs twice gets its adapter once."""
    tokens = tokenizer("Plants need light.", return_tensors="pt")
    with apply_chain(model, CHAIN) as applied:
        adapted = get_peft_model(applied, LORA).eval()
        expected = adapted(**tokens).logits
        adapted.save_pretrained(tmp_path / "adapter")
        with adapted.disable_adapter():
            plain = adapted(**tokens).logits
    assert f"(chain {CHAIN})" in (tmp_path / "adapter" / "adapter_config.json").read_text()
    fresh = AutoModelForCausalLM.from_pretrained(assets.model_folder(), dtype=torch.float32, trust_remote_code=False)
    with torch.no_grad(), apply_chain(fresh, CHAIN) as applied:
        assert torch.equal(applied(**tokens).logits, plain)
        again = PeftModel.from_pretrained(applied, tmp_path / "adapter").eval()
        assert torch.equal(again(**tokens).logits, expected)
        merged = again.merge_and_unload()
        assert torch.allclose(merged(**tokens).logits, expected, atol=1e-3)
        assert not torch.allclose(expected, plain, atol=1e-2)


def test_supervised_finetuning_saves_the_whole_model(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    before = copy.deepcopy(model.model.layers[10].state_dict())
    with apply_chain(model, CHAIN) as applied:
        trained = applied.model.layers[3].mlp.up_proj.weight
        assert trained is applied.model.layers[4].mlp.up_proj.weight  # both visits of layer 3
        old = trained.clone()
        SFTTrainer(
            model=applied,
            args=SFTConfig(**settings(tmp_path, save_strategy="steps", save_steps=1, learning_rate=1e-3)),
            train_dataset=Dataset.from_dict({"text": ["Plants need light.", "Iron rusts."]}),
            processing_class=tokenizer,
        ).train()
        assert not torch.equal(old, trained)
        tokens = tokenizer("Plants need", return_tensors="pt")
        with torch.no_grad():
            expected = applied.eval()(**tokens).logits
    for name, weight in model.model.layers[10].state_dict().items():  # it is not in the chain
        assert torch.equal(weight, before[name])
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-1", dtype=torch.float32)
    assert len(saved.model.layers) == 30
    with torch.no_grad(), apply_chain(saved, CHAIN):
        assert torch.equal(saved.eval()(**tokens).logits, expected)


def preference(model: Any, tokenizer: Any, folder: Path, **more: Any) -> float:
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(**settings(folder)),
        train_dataset=Dataset.from_dict(PAIRS),
        processing_class=tokenizer,
        **more,
    )
    trainer.train()
    return float(trainer.state.log_history[0]["loss"])


def test_preference_training_begins_at_its_reference(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """A reference model that is the same chain has a first loss of log 2; one of other layers is not made."""
    with apply_chain(model, CHAIN) as applied:
        with pytest.raises(OSError, match="chain 0-2"):
            preference(applied, tokenizer, tmp_path)
        same = preference(applied, tokenizer, tmp_path, ref_model=copy.deepcopy(applied))
        assert same == pytest.approx(math.log(2), abs=1e-3)
        adapters = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        assert preference(applied, tokenizer, tmp_path, peft_config=adapters) == pytest.approx(math.log(2), abs=1e-3)


def test_a_step_of_grpo(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    before = model.model.layers[27].mlp.up_proj.weight.clone()
    other = model.model.layers[10].mlp.up_proj.weight.clone()
    more = {"num_generations": 2, "max_completion_length": 4, "learning_rate": 1e-3}
    with apply_chain(model, CHAIN) as applied:
        GRPOTrainer(
            model=applied,
            reward_funcs=lambda completions, **_: [float(n % 2) for n in range(len(completions))],
            args=GRPOConfig(**settings(tmp_path, **more)),
            train_dataset=Dataset.from_dict({"prompt": PAIRS["prompt"]}),
            processing_class=tokenizer,
        ).train()
    assert not torch.equal(before, model.model.layers[27].mlp.up_proj.weight)
    assert torch.equal(other, model.model.layers[10].mlp.up_proj.weight)
