"""Generation through chains. The rows of a batch may each have their own, and every visit of a layer keeps keys and
values of its own: a looped layer must not see what its earlier visit saw.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.options import Decoding
from cola_learn.backbone.rows import Row
from cola_learn.backbone.states import Growing, Slotted
from cola_learn.chains import Chain
from cola_learn.errors import UserError

if TYPE_CHECKING:  # importing transformers takes a second
    from transformers import LogitsProcessorList, StoppingCriteriaList
    from transformers.generation.streamers import BaseStreamer


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
        decoding: Decoding | None = None,
        logits_processor: "LogitsProcessorList | None" = None,
        stopping_criteria: "StoppingCriteriaList | None" = None,
        streamer: "BaseStreamer | None" = None,
        ended: Callable[[Sequence[int]], bool] = lambda new: False,
    ) -> list[list[int]]:
        """Continuations of all prompts, run together.

        Args:
            prompts: token ids of each, at least one.
            chains: the layers that every token of a prompt and its continuation runs through.
            decoding: how tokens are chosen; greedy by default.
            logits_processor: of transformers, applied to each row before temperature, top-k and top-p. It is given
                the row's tokens ``[1, T]`` and its logits ``[1, V]``.
            stopping_criteria: of transformers; given the row's tokens ``[1, T]`` and its logits.
            streamer: of transformers, for one prompt.
            ended: whether a row that has written these new tokens is done.

        Returns:
            New token ids of each row, an end-of-text token not included.

        Raises:
            UserError: if a prompt is empty or longer, with what it may write, than the model reads.
        """
        from transformers import LogitsProcessorList, StopStringCriteria

        decoding = decoding or Decoding()
        self._check(prompts, chains, decoding, streamer)
        processors = LogitsProcessorList([*(logits_processor or ()), *decoding.warpers()])
        stops = StopStringCriteria(self.backbone.tokenizer, list(decoding.stop)) if decoding.stop else None
        ends = end_tokens(self.backbone)
        sequences = [
            Growing(tuple(prompt), chain.layers, torch.Generator().manual_seed(decoding.seed + index))
            for index, (prompt, chain) in enumerate(zip(prompts, chains, strict=True))
        ]
        if streamer:
            streamer.put(torch.tensor([prompts[0]]))
        live = list(sequences)
        while live:
            logits = self.backbone.finish(self._states.last(live))
            going = []
            chosen = _choose(live, logits, processors, decoding)
            for sequence, token, own in zip(live, chosen, logits.split(1), strict=True):
                if token in ends:
                    continue
                sequence.new.append(token)
                if streamer:
                    streamer.put(torch.tensor([token]))
                if len(sequence.new) == decoding.max_new_tokens:
                    continue
                if ended(sequence.new) or (stops and bool(stops(torch.tensor([sequence.new]), own))):
                    continue
                if stopping_criteria and bool(stopping_criteria(_all_tokens(sequence), own)):
                    continue
                going.append(sequence)
            live = going
        if streamer:
            streamer.end()
        return [sequence.new for sequence in sequences]

    def _check(
        self,
        prompts: Sequence[Sequence[int]],
        chains: Sequence[Chain],
        decoding: Decoding,
        streamer: "BaseStreamer | None",
    ) -> None:
        if len(prompts) != len(chains):
            raise ValueError(f"{len(prompts)} prompts need as many chains, {len(chains)} given")
        if streamer and len(prompts) != 1:
            raise ValueError(f"a streamer shows one prompt, {len(prompts)} given")
        if not all(prompts):
            raise UserError("a prompt has no tokens; give a text")
        longest = max(map(len, prompts), default=0)
        if longest + decoding.max_new_tokens > self.backbone.max_tokens:
            raise UserError(
                f"a prompt of {longest} tokens and max_new_tokens {decoding.max_new_tokens} exceed the "
                f"{self.backbone.max_tokens} tokens that {self.backbone.name} reads; shorten the prompt or write less"
            )


def _choose(
    sequences: Sequence[Growing], logits: Tensor, processors: "LogitsProcessorList", decoding: Decoding
) -> list[int]:
    if not processors and not decoding.temperature:
        greedy: list[int] = logits.argmax(-1).tolist()
        return greedy
    chosen = []
    for sequence, row in zip(sequences, logits.float(), strict=True):
        scores = processors(_all_tokens(sequence).to(row.device), row[None])[0]
        if decoding.temperature:
            chosen.append(int(torch.multinomial(scores.softmax(-1).cpu(), 1, generator=sequence.draws)))
        else:
            chosen.append(int(scores.argmax()))
    return chosen


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


def _all_tokens(sequence: Growing) -> Any:
    return torch.tensor([[*sequence.prompt, *sequence.new]])
