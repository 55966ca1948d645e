"""Incremental decoding of the controller: one edit at a time, with cached states."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention


class DecoderSteps:
    """What a decoder makes of sequences that grow by a token a step, for one prompt; no dropout.

    The keys and values of the prompt and of all earlier tokens are kept, so that a step costs one token.

    Args:
        decoder: of pre-norm layers, in eval mode.
        memory: of the prompt, ``[M, width]``.
    """

    def __init__(self, decoder: nn.TransformerDecoder, memory: Tensor) -> None:
        self._norm = decoder.norm
        self._blocks = [_Block(layer, memory) for layer in decoder.layers]

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """States ``[B, width]`` after one more token of each sequence.

        Args:
            tokens: embedded, ``[B, width]``.
            parents: which of the last step's sequences each of these goes on from, ``[B]``.
        """
        states = tokens
        for block in self._blocks:
            states = block.step(states, parents)
        normed: Tensor = states if self._norm is None else self._norm(states)
        return normed


class _Block:
    """A layer with the keys and values ``[B, heads, tokens, width / heads]`` of what it attends to."""

    def __init__(self, layer: nn.TransformerDecoderLayer, memory: Tensor) -> None:
        self._layer = layer
        self._heads = layer.self_attn.num_heads
        width, cross = memory.shape[1], layer.multihead_attn
        weights, biases = cross.in_proj_weight, cross.in_proj_bias
        self._ask = (weights[:width], biases[:width])
        self._prompt = self._split(linear(memory, weights[width:], biases[width:])[None], 2)
        self._keys = self._values = memory.new_empty(1, self._heads, 0, width // self._heads)

    def step(self, states: Tensor, parents: Tensor) -> Tensor:
        layer, own = self._layer, self._layer.self_attn
        projected = linear(layer.norm1(states), own.in_proj_weight, own.in_proj_bias)
        query, key, value = self._split(projected[:, None], 3)
        self._keys = torch.cat([self._keys[parents], key], dim=2)
        self._values = torch.cat([self._values[parents], value], dim=2)
        states = states + own.out_proj(scaled_dot_product_attention(query, self._keys, self._values).flatten(1))
        (query,) = self._split(linear(layer.norm2(states), *self._ask)[:, None], 1)
        keys, values = (kept.expand(len(states), -1, -1, -1) for kept in self._prompt)
        states = states + layer.multihead_attn.out_proj(scaled_dot_product_attention(query, keys, values).flatten(1))
        after: Tensor = states + layer.linear2(layer.activation(layer.linear1(layer.norm3(states))))
        return after

    def _split(self, projected: Tensor, parts: int) -> list[Tensor]:
        """``[B, T, parts * width]`` as so many ``[B, heads, T, width / heads]``."""
        size, tokens, _ = projected.shape
        return list(projected.view(size, tokens, parts, self._heads, -1).permute(2, 0, 3, 1, 4).unbind())
