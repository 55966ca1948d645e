"""Hidden states that a controller reads from a transformers model, and rows of a padded batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cola_learn.backbone.layers import find_layers


class _Enough(Exception):
    """All states have been seen."""


@torch.inference_mode()
def prompt_states(model: PreTrainedModel, row: Tensor, layers: Sequence[int]) -> Tensor:
    """Hidden states of one prompt ``[T]`` after some of the first layers (0 is the embedding layer), ``[T, F, H]`` in
    bfloat16; the model runs no further than it has to."""
    found: dict[int, Tensor] = {}
    blocks = find_layers(model, type(model).__name__)

    def entered(depth: int) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            found[depth] = (args[0] if args else kwargs["hidden_states"])[0]
            if depth == max(layers):
                raise _Enough

        return hook

    def left(module: nn.Module, args: Any, output: Any) -> None:
        found[len(blocks)] = (output[0] if isinstance(output, tuple | list) else output)[0]
        raise _Enough

    hooks = [
        blocks[depth].register_forward_pre_hook(entered(depth), with_kwargs=True)
        if depth < len(blocks)
        else blocks[-1].register_forward_hook(left)
        for depth in set(layers)
    ]
    try:
        model(input_ids=row[None], use_cache=False)
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([found[depth].to(torch.bfloat16) for depth in layers], dim=1)


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
