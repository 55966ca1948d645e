"""Greedy generation through a chain, with one key/value slot for every visit of a layer."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from cola_learn.backbone.recording import Batch
from cola_learn.backbone.replay import Backbone
from cola_learn.chains import Chain


class VisitCache(DynamicCache):
    """Keys and values by position in the chain, not by layer: a looped layer must not see its own earlier
    visit's keys. ``visit`` is set by whoever runs the chain, before each layer call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.visit = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return super().update(key_states, value_states, self.visit, *args, **kwargs)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(super().get_seq_length(0))

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return super().get_mask_sizes(query_length, 0)


@torch.inference_mode()
def generate(
    backbone: Backbone,
    prompt: Sequence[int],
    chain: Chain,
    max_new_tokens: int = 64,
    stop: Callable[[list[int]], bool] = lambda tokens: False,
    cached: bool | None = None,
) -> list[int]:
    """Greedy decoding of the backbone run through ``chain``.

    Args:
        backbone: what runs.
        prompt: token ids, at least one.
        chain: the layers of every step.
        max_new_tokens: limit of new tokens.
        stop: told the new tokens after each one; True ends.
        cached: keep keys and values between steps; by default where the architecture is plain attention.

    Returns:
        New token ids, an end-of-text token not included.
    """
    keep = backbone.packable if cached is None else cached
    cache = VisitCache() if keep else None
    ends = _end_tokens(backbone)
    tokens: list[int] = []
    pending = list(prompt)
    while len(tokens) < max_new_tokens:
        inputs: dict[str, Any] = {"input_ids": torch.tensor([pending], device=backbone.device)}
        if cache is not None:
            inputs |= {"past_key_values": cache, "use_cache": True}
        recording = backbone.record_inputs(**inputs)
        batch, hidden = Batch([recording]), recording.hidden
        for visit, layer in enumerate(chain.layers):
            if cache is not None:
                cache.visit = visit
            hidden = backbone.run_layer(layer, hidden, batch)
        token = int(backbone.finish(hidden[0, -1:]).argmax())
        if token in ends:
            break
        tokens.append(token)
        if stop(tokens):
            break
        pending = [token] if cache is not None else [*prompt, *tokens]
    return tokens


def _end_tokens(backbone: Backbone) -> set[int]:
    configured = backbone.model.generation_config.eos_token_id
    if configured is None:
        configured = backbone.tokenizer.eos_token_id
    return set(configured) if isinstance(configured, list) else {configured}
