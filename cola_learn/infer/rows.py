"""Rows of a padded batch."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def unpadded(input_ids: Tensor, attention_mask: Tensor | None) -> Iterator[Tensor]:
    """The rows without padding, ``[T_i]`` each."""
    for index, row in enumerate(input_ids):
        yield row if attention_mask is None else row[attention_mask[index].bool()]


def rows_of(options: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """The options for some rows: tensors with a dimension of the batch are taken apart."""
    size = len(options["input_ids"])

    def of_batch(value: Any) -> bool:
        return isinstance(value, Tensor) and value.dim() > 0 and len(value) == size

    return {name: value[rows.to(value.device)] if of_batch(value) else value for name, value in options.items()}
