"""A chain inside a model that is trained: PEFT's adapters and TRL's trainer see a model whose layers are the chain."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from cola_learn import apply_chain, assets

CHAIN = "0-2 (3)x2 27-29"  # a short one: training runs it forth and back


@pytest.fixture
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(assets.model_folder(), dtype=torch.float32, trust_remote_code=False)


def test_adapters_learn_on_a_chain(model: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(assets.model_folder(), trust_remote_code=False)
    with apply_chain(model, CHAIN) as applied:
        adapted = get_peft_model(applied, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
        assert sum("lora_A" in name for name, _ in adapted.named_parameters()) == 8  # one a place of the chain
        tokens = tokenizer("Plants need light.", return_tensors="pt")
        optimizer = torch.optim.SGD([one for one in adapted.parameters() if one.requires_grad], 0.5)
        losses = []
        for _ in range(3):
            loss = adapted(**tokens, labels=tokens["input_ids"]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss))
    assert losses[2] < losses[0]


def test_a_step_of_trl(model: Any, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(assets.model_folder(), trust_remote_code=False)
    before = model.model.layers[10].mlp.up_proj.weight.clone()
    settings = {"max_steps": 1, "per_device_train_batch_size": 2, "report_to": "none", "save_strategy": "no"}
    with apply_chain(model, CHAIN) as applied:
        trained = applied.model.layers[3].mlp.up_proj.weight
        assert trained is applied.model.layers[4].mlp.up_proj.weight  # both visits of layer 3
        old = trained.clone()
        SFTTrainer(
            model=applied,
            args=SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, learning_rate=1e-3, **settings),
            train_dataset=Dataset.from_dict({"text": ["Plants need light.", "Iron rusts."]}),
            processing_class=tokenizer,
        ).train()
        assert not torch.equal(old, trained)
    assert torch.equal(before, model.model.layers[10].mlp.up_proj.weight)  # it is not in the chain
