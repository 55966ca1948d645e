"""Attention for packed rows, and weights in the order that a CPU multiplies in."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor, cat, nn

NAMES = {"sdpa": "cola_rows_sdpa", "eager": "cola_rows_eager"}  # by what a model had before
_SPARE = 64  # tokens that a slot grows by at least, so that a decoding step rarely copies what is kept


class Slot:
    """Keys and values ``[1, heads, T, size]`` that one visit of a layer has seen of one row.

    What a slot is made with may be shared with other slots: it is copied before the first token is added.
    """

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        self._keys, self._values = keys, values
        self._length = 0 if keys is None else keys.shape[2]

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """Keys and values, or nothing for a layer without attention."""
        if self._keys is None or self._values is None:
            return ()
        return self._keys[:, :, : self._length], self._values[:, :, : self._length]

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """Add those of new tokens; returns all."""
        if self._keys is None or self._values is None:
            self._keys, self._values = keys, values
        else:
            total = self._length + keys.shape[2]
            if total > self._keys.shape[2]:
                self._keys = _grown(self._keys, self._length, total)
                self._values = _grown(self._values, self._length, total)
            self._keys[:, :, self._length : total] = keys
            self._values[:, :, self._length : total] = values
        self._length += keys.shape[2]
        return self.kept


def _grown(buffer: Tensor, length: int, total: int) -> Tensor:
    shape = list(buffer.shape)
    shape[2] = total + max(_SPARE, total // 2)
    larger = buffer.new_empty(shape)
    larger[:, :, :length] = buffer[:, :, :length]
    return larger


class Padding(NamedTuple):
    """Where the tokens of rows of several lengths are once each is padded to the longest.

    Attributes:
        spread: for every place of the padded rows the token that is there, ``[number * length]``; behind a row's end
            its last one again.
        joined: where among these the tokens are, ``[tokens]``.
    """

    spread: Tensor
    joined: Tensor


class Group(NamedTuple):
    """Neighbouring rows that attend in one call.

    Attributes:
        number: of rows.
        length: of each, in tokens that run now, padding included.
        mask: ``[number, 1, length, all tokens]``, or None for plain causal.
        slot: what a single row has run before, which it attends to as well.
        padding: where the rows are not all of that length.
    """

    number: int
    length: int
    mask: Tensor | None
    slot: Slot | None = None
    padding: Padding | None = None

    @property
    def tokens(self) -> int:
        """Of the rows, without padding."""
        return self.number * self.length if self.padding is None else len(self.padding.joined)


_layout: ContextVar[Sequence[Group] | None] = ContextVar("layout", default=None)


@contextmanager
def rows(layout: Sequence[Group]) -> Iterator[None]:
    """Within the block a sequence is the rows of ``layout``, end to end, and the model makes no masks of its own."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


@contextmanager
def of_packed_rows(model: Any) -> Iterator[bool]:
    """Within the block a model attends as ``rows`` says; whether its attention is known to do so."""
    before = model.config._attn_implementation
    if before not in NAMES:
        yield False
        return
    try:
        install(model)
        yield True
    finally:
        model.set_attn_implementation(before)


def install(model: Any) -> None:
    """Have a model attend as ``rows`` says, from now on."""
    register()
    model.set_attn_implementation(NAMES[model.config._attn_implementation])


def _attend(
    attend: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    layout = _layout.get()
    if layout is None:
        result: tuple[Tensor, Tensor | None] = attend(module, query, key, value, attention_mask, **options)
        return result
    sizes = [group.tokens for group in layout]
    parts = zip(layout, query.split(sizes, 2), key.split(sizes, 2), value.split(sizes, 2), strict=True)
    outputs = []
    for group, *states in parts:
        if group.padding is not None:
            spread, joined = (places.to(query.device) for places in group.padding)
            states = [state.index_select(2, spread) for state in states]
        if group.number == 1:
            apart = states
        else:  # [1, heads, number * length, size] to [number, heads, length, size]
            apart = [state[0].unflatten(1, (group.number, group.length)).transpose(0, 1) for state in states]
        if group.slot is not None:
            apart[1:] = group.slot.extend(*apart[1:])
        mask = None if group.mask is None else group.mask.to(query.device)
        output, _ = attend(module, *apart, mask, **options)
        output = output.flatten(0, 1)
        outputs.append(output if group.padding is None else output.index_select(0, joined))
    return cat(outputs)[None], None


def _eager(module: nn.Module, *args: Any, **options: Any) -> Any:
    """The attention that the model's own file falls back to: soft-capping, sinks and the like are in there."""
    return sys.modules[type(module).__module__].eager_attention_forward(module, *args, **options)


def _mask(make: Callable[..., Tensor | None], *args: Any, **kwargs: Any) -> Tensor | None:
    return make(*args, **kwargs) if _layout.get() is None else None


@cache
def register() -> None:
    """Make these known to transformers, whose modelling code takes longer to import than ``--help`` should."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import eager_mask, sdpa_mask

    for before, attend, make in (("sdpa", sdpa_attention_forward, sdpa_mask), ("eager", _eager, eager_mask)):
        AttentionInterface.register(NAMES[before], partial(_attend, attend))
        AttentionMaskInterface.register(NAMES[before], partial(_mask, make))


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
