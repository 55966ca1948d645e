"""Packed weights multiply as the plain ones do, and are only made where there is room."""

import copy
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from benchmarks.baselines import plain_model
from cola_learn.backbone.prepacked import prepack_weights
from cola_learn.backbone.replay import Backbone


def test_packed_products_are_the_plain_ones() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(576, 192), nn.Linear(192, 576, bias=False)).to(torch.bfloat16)
    packed = copy.deepcopy(plain)
    prepack_weights([packed])
    with torch.inference_mode():
        for rows in (1, 7, 64, 200):
            numbers = torch.randn(1, rows, 576, dtype=torch.bfloat16)
            expected = plain(numbers)
            assert (packed(numbers) - expected).abs().max() <= 0.02 * expected.abs().max()


def test_the_embedded_model_says_the_same(smollm16: Backbone) -> None:
    """Against a copy with the packing taken off."""
    plain = plain_model(smollm16)
    tokens = torch.tensor([smollm16.tokenizer.encode("Which of these metals rusts when it is left outside?")])
    with torch.inference_mode():
        found, expected = (model(input_ids=tokens).logits.float() for model in (smollm16.model, plain))
    assert (found - expected).abs().max() < 0.5
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.9


def test_no_room_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = nn.Linear(64, 64).to(torch.bfloat16)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * 64 * 64))
    assert not prepack_weights([linear])
    assert "forward" not in vars(linear)


def test_float32_is_left_alone() -> None:
    linear = nn.Linear(64, 64)
    assert not prepack_weights([linear])
    assert "forward" not in vars(linear)
