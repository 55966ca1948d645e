"""Attention for rows laid end to end: each row attends to itself only, and no token is padding.

Registered with transformers under a name of its own, so that any architecture built on its attention interface
can run rows of different lengths as one sequence. Outside :func:`rows` it is plain scaled-dot-product attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from torch import Tensor, cat, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "cola_rows"


class Group(NamedTuple):
    """Neighbouring rows of one length; ``mask`` is ``[number, 1, length, length]``, or None for plain causal."""

    number: int
    length: int
    mask: Tensor | None


_layout: ContextVar[Sequence[Group] | None] = ContextVar("layout", default=None)


@contextmanager
def rows(layout: Sequence[Group]) -> Iterator[None]:
    """Within the block a sequence is the rows of ``layout``, end to end."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    layout = _layout.get()
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    sizes = [group.number * group.length for group in layout]
    parts = zip(layout, query.split(sizes, 2), key.split(sizes, 2), value.split(sizes, 2), strict=True)
    outputs = []
    for group, *states in parts:
        # [1, heads, number * length, size] to [number, heads, length, size]
        apart = [state[0].unflatten(1, (group.number, group.length)).transpose(0, 1) for state in states]
        output, _ = sdpa_attention_forward(module, *apart, group.mask, **options)
        outputs.append(output.flatten(0, 1))
    return cat(outputs)[None], None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
