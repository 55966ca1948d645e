"""What programs do to a model while a chain is applied, and in what order chains come and go."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from cola_learn import Chain, apply_chain
from cola_learn.backbone.apply_chain import apply_chains
from cola_learn.errors import UserError
from tests.architectures import rebuilt_logits, tiny_model

CHAIN = "0 (1)x2 3"  # of four layers: one twice, one skipped
TOKENS = torch.tensor([[5, 17, 30, 8, 61, 12, 44]])


@pytest.fixture
def tiny() -> Any:
    return tiny_model("llama").eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=TOKENS, use_cache=False).logits[0]
        return found


class _Scaled(nn.Linear):
    """Stands in for what quantizers and adapters put in the place of a linear layer."""


def swap(model: Any) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and name == "q_proj":
                new = _Scaled(child.in_features, child.out_features, bias=False)
                new.weight = nn.Parameter(child.weight * 0.5)
                setattr(module, name, new)


def scale(model: Any) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "down_proj" in name:
                weight.mul_(0.5)


def weights(layer: Any) -> list[nn.Parameter]:
    return list(layer.parameters())


# what is done to the whole model, and what holds of every layer then, of the skipped one too
DONE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bool]]] = {
    "train": (
        lambda model: model.train(),
        lambda layer: all(module.training for module in layer.modules()),
    ),
    "requires_grad_": (
        lambda model: model.requires_grad_(False),
        lambda layer: not any(weight.requires_grad for weight in weights(layer)),
    ),
    "to": (
        lambda model: model.to(torch.float64),
        lambda layer: all(weight.dtype == torch.float64 for weight in weights(layer)),
    ),
    "weights in place": (scale, lambda layer: True),
    "modules swapped": (swap, lambda layer: isinstance(layer.self_attn.q_proj, _Scaled)),
    "gradient checkpointing": (
        lambda model: model.gradient_checkpointing_enable(),
        lambda layer: layer.gradient_checkpointing,
    ),
}


@pytest.mark.parametrize("name", DONE)
def test_what_is_done_to_the_model_is_done_to_every_layer(name: str, tiny: Any) -> None:
    do, holds = DONE[name]
    with apply_chain(tiny, CHAIN):
        do(tiny)
        within = logits(tiny.eval() if name != "train" else tiny)
        if name == "train":
            assert all(layer.training and layer.self_attn.training for layer in tiny.model.layers)
    assert all(map(holds, tiny.model.layers))
    expected = rebuilt_logits(tiny.eval(), Chain.parse(CHAIN, 4), TOKENS.to(tiny.device))
    assert torch.allclose(within, expected, atol=1e-4)


def test_gradients_of_a_layer_are_those_of_all_its_visits(tiny: Any) -> None:
    tiny.train()
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            tiny.gradient_checkpointing_enable()
        tiny.zero_grad()
        with apply_chain(tiny, CHAIN):
            tiny(input_ids=TOKENS, labels=TOKENS).loss.backward()
        assert tiny.model.layers[2].mlp.up_proj.weight.grad is None
        found.append(tiny.model.layers[1].mlp.up_proj.weight.grad.clone())
    assert torch.allclose(*found, atol=1e-6)
    assert found[0].abs().sum() > 0


def test_hooks_see_every_visit(tiny: Any) -> None:
    seen: list[str] = []
    tiny.model.layers[1].register_forward_hook(lambda *_: seen.append("before"))
    with apply_chain(tiny, CHAIN):
        handle = tiny.model.layers[2].mlp.register_forward_hook(lambda *_: seen.append("within"))  # the second visit
        logits(tiny)
    assert sorted(seen) == ["before"] * 2 + ["within"] * 2
    handle.remove()
    seen.clear()
    logits(tiny)
    assert seen == ["before"]


def test_a_configuration_that_is_edited_stays_edited(tiny: Any) -> None:
    before = tiny.config.to_dict()
    with apply_chain(tiny, "0 2-3"):
        assert tiny.config.num_hidden_layers == 3
        tiny.config.use_cache = False
    assert tiny.config.to_dict() == {**before, "use_cache": False}


def test_hidden_states_are_those_between_visits(tiny: Any) -> None:
    with apply_chain(tiny, "0 (1)x3 3"), torch.no_grad():
        found = tiny(input_ids=TOKENS, output_hidden_states=True).hidden_states
        assert len(found) == 6
        places = tiny.model.rotary_emb(found[1], torch.arange(7)[None])
        assert torch.equal(tiny.model.layers[1](found[1], position_embeddings=places), found[2])


def test_saving_writes_the_whole_model(tiny: Any, tmp_path: Path) -> None:
    expected = logits(tiny)
    with apply_chain(tiny, CHAIN):
        tiny.save_pretrained(tmp_path)
        assert tiny.config.num_hidden_layers == 4 == len(tiny.model.layers)
        weights = {name: weight.clone() for name, weight in tiny.state_dict().items()}
        tiny.load_state_dict(weights)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again), expected)
    assert set(weights) == set(again.state_dict())
    assert torch.equal(logits(tiny), expected)


def test_a_copy_runs_the_chain_on_its_own(tiny: Any, tmp_path: Path) -> None:
    plain = logits(tiny)
    with apply_chain(tiny, CHAIN):
        expected, copied = logits(tiny), copy.deepcopy(tiny)
        pickled = pickle.loads(pickle.dumps(tiny))
    with torch.no_grad():
        for weight in tiny.parameters():
            weight.zero_()
    for other in (copied, pickled):
        assert torch.equal(logits(other), expected)
        other.save_pretrained(tmp_path)
        assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path).eval()), plain)


def test_a_chain_may_be_applied_again(tiny: Any) -> None:
    plain = logits(tiny)
    chain = apply_chain(tiny, CHAIN)
    expected = logits(tiny)
    chain.undo()
    chain.undo()  # is undone already
    for _ in range(2):
        assert torch.equal(logits(tiny), plain)
        with chain:
            assert torch.equal(logits(tiny), expected)
    assert torch.equal(logits(tiny), plain)


def test_the_last_chain_is_undone_first(tiny: Any) -> None:
    plain, before = logits(tiny), tiny.config.to_dict()
    outer = apply_chain(tiny, "0-2 (3)x2")
    inner = apply_chain(tiny, "0 2-4")  # of the five visits
    assert torch.allclose(logits(tiny), rebuilt_logits(tiny_model("llama").eval(), Chain.parse("0 2 3 3", 4), TOKENS))
    with pytest.raises(RuntimeError, match="another was applied since; undo that one first"):
        outer.undo()
    inner.undo()
    outer.undo()
    again = apply_chain(tiny, CHAIN)
    inner.undo()
    outer.undo()
    assert tiny.config.num_hidden_layers == 4 == len(tiny.model.layers)
    assert tiny.name_or_path.endswith(f"(chain {CHAIN})")
    again.undo()
    assert torch.equal(logits(tiny), plain)
    assert tiny.config.to_dict() == before
    with apply_chains(tiny, [Chain.parse("0 2-3", 4), Chain.base(4)]), pytest.raises(UserError, match="of their own"):
        apply_chain(tiny, "0-3")
