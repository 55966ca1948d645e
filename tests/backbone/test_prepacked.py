"""Packed weights multiply as the plain ones do, and are only made where there is room."""

import copy
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from cola_learn.backbone.attention import prepack_weights


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


def test_no_room_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = nn.Linear(64, 64).to(torch.bfloat16)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * 64 * 64))
    assert not prepack_weights([linear])
    assert "forward" not in vars(linear)


def test_float32_is_left_alone() -> None:
    linear = nn.Linear(64, 64)
    assert not prepack_weights([linear])
    assert "forward" not in vars(linear)
