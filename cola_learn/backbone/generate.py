"""Greedy generation through the chains of searches. The rows of a batch may each have their own, and every visit of a
layer keeps keys and values of its own: a looped layer must not see what its earlier visit saw.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.rows import Row
from cola_learn.backbone.states import Growing, Slotted
from cola_learn.chains import Chain
from cola_learn.errors import UserError


class _States(Protocol):
    def last(self, sequences: Sequence[Growing]) -> Tensor:
        """Final hidden state of the last token of each, ``[B, H]``."""


class Generator:
    """Writes on from prompts, each through a chain.

    The keys and values of prompts are kept by prefix of the chain, across calls too: a second chain on the same
    prompt runs the prompt only through what is new.

    Args:
        backbone: what runs.
        cache_bytes: budget for what is kept of prompts; by default a share of the free memory.
        cached: keep keys and values between steps; by default wherever that was found to change nothing (the
            architecture runs packed rows and attention is all that its layers remember). Else every step
            runs all tokens again.
    """

    def __init__(self, backbone: Backbone, cache_bytes: int | None = None, cached: bool | None = None) -> None:
        self.backbone = backbone
        can = backbone.capabilities
        self.cached = can.packing is not None and (can.slots if cached is None else cached)
        self._states: _States = _Recomputed(backbone)
        if self.cached and can.packing is not None:
            self._states = Slotted(backbone, can.packing, cache_bytes, backbone.call_tokens)

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        chains: Sequence[Chain],
        max_new_tokens: int = 64,
        ended: Callable[[Sequence[int]], bool] = lambda new: False,
    ) -> list[list[int]]:
        """Greedy continuations of all prompts, run together.

        Args:
            prompts: token ids of each, at least one.
            chains: the layers that every token of a prompt and its continuation runs through.
            max_new_tokens: most tokens a row writes.
            ended: whether a row that has written these new tokens is done.

        Returns:
            New token ids of each row, an end-of-text token not included.

        Raises:
            UserError: if a prompt is empty or longer, with what it may write, than the model reads.
        """
        check_prompts(self.backbone, prompts, max_new_tokens)
        ends = end_tokens(self.backbone)
        pairs = zip(prompts, chains, strict=True)
        sequences = [Growing(tuple(prompt), chain.layers) for prompt, chain in pairs]
        live = list(sequences)
        while live:
            chosen: list[int] = self.backbone.finish(self._states.last(live)).argmax(-1).tolist()
            going = []
            for sequence, token in zip(live, chosen, strict=True):
                if token not in ends:
                    sequence.new.append(token)
                    if len(sequence.new) < max_new_tokens and not ended(sequence.new):
                        going.append(sequence)
            live = going
        return [sequence.new for sequence in sequences]


def check_prompts(backbone: Backbone, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Refuse prompts that cannot be written on from.

    Raises:
        UserError: if one is empty or longer, with what it may write, than the model reads.
    """
    if not all(map(len, prompts)):
        raise UserError("a prompt has no tokens; give a text")
    longest = max(map(len, prompts), default=0)
    if longest + max_new_tokens > backbone.max_tokens:
        raise UserError(
            f"a prompt of {longest} tokens and max_new_tokens {max_new_tokens} exceed the "
            f"{backbone.max_tokens} tokens that {backbone.name} reads; shorten the prompt or write less"
        )


def end_tokens(backbone: Backbone) -> set[int]:
    """The tokens with which the model ends a text."""
    configured = backbone.model.generation_config.eos_token_id
    if configured is None:
        configured = backbone.tokenizer.eos_token_id
    return set(configured) if isinstance(configured, list) else {configured}


class _Recomputed:
    """Runs all tokens of every row at every step."""

    def __init__(self, backbone: Backbone) -> None:
        self._executor = Executor(backbone, cache_bytes=0)  # every row is new at every step

    def last(self, sequences: Sequence[Growing]) -> Tensor:
        rows = [[*sequence.prompt, *sequence.new] for sequence in sequences]
        handles = [self._executor.open(Row.plain(row, wanted=[len(row) - 1])) for row in rows]
        chains = [Chain(sequence.layers, self._executor.backbone.num_layers) for sequence in sequences]
        hidden = self._executor.run(list(zip(handles, chains, strict=True)))
        for handle in handles:
            self._executor.close(handle)
        return torch.cat(hidden)
