"""Weights of linear layers kept in the order that this CPU multiplies in.

A plain product in bfloat16 on a CPU reorders its weights at every call, which for the small batches of a search is a
large part of its time. The results are the same, bit for bit; the price is a second copy of the weights.
"""

from collections.abc import Iterable
from typing import Any

import psutil
import torch
from torch import Tensor, nn

_TYPICAL_ROWS = 128
_SHARE_OF_FREE = 0.25  # of memory, that the copy may take


def prepack_weights(modules: Iterable[nn.Module]) -> bool:
    """Keep reordered copies of the bfloat16 weights of all plain linear layers on the CPU, where that helps.

    Returns:
        Whether anything was done: not without oneDNN's bfloat16 products, nor where the copy takes too much memory.
    """
    linears = {
        id(linear): linear
        for module in modules
        for linear in module.modules()
        if type(linear) is nn.Linear and not hasattr(linear, "_hf_hook") and "forward" not in vars(linear)
        if linear.weight.device.type == "cpu" and linear.weight.dtype == torch.bfloat16
    }
    size = sum(linear.weight.numel() * linear.weight.element_size() for linear in linears.values())
    if not linears or not _reorders() or size > _SHARE_OF_FREE * psutil.virtual_memory().available:
        return False
    for linear in linears.values():
        weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _TYPICAL_ROWS)
        linear.forward = _Prepacked(weight, linear.bias)  # type: ignore[assignment]
    return True


class _Prepacked:
    """The forward of a linear layer whose weight is prepacked; copies of the layer share it, as it never changes."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, numbers: Tensor) -> Any:
        return torch.ops.mkldnn._linear_pointwise(numbers, self._weight, self._bias, "none", [], "")

    def __deepcopy__(self, memo: Any) -> "_Prepacked":
        return self


@torch.inference_mode()
def _reorders() -> bool:
    """Whether this torch and CPU can, found out by comparing."""
    numbers, weight = torch.randn(20, 64, dtype=torch.bfloat16), torch.randn(32, 64, dtype=torch.bfloat16)
    try:
        reordered = torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_ROWS)
        found = _Prepacked(reordered, None)(numbers)
    except (RuntimeError, AttributeError):
        return False
    return bool((found - nn.functional.linear(numbers, weight)).abs().max() < 0.5)
