"""Generation through chains. The rows of a batch may each have their own, and every visit of a layer keeps keys and
values of its own: a looped layer must not see what its earlier visit saw.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from cola_learn.backbone.options import Decoding
from cola_learn.backbone.probes import agree
from cola_learn.backbone.replay import Backbone
from cola_learn.backbone.states import Growing, Recomputed, Slotted, States, all_tokens
from cola_learn.chains import Chain
from cola_learn.errors import UserError

if TYPE_CHECKING:  # importing transformers takes a second
    from transformers import LogitsProcessorList, StoppingCriteriaList
    from transformers.generation.streamers import BaseStreamer


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
        self.cached = slots_suffice(backbone) if cached is None else cached
        self._states: States = Slotted(backbone, cache_bytes) if self.cached else Recomputed(backbone)

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
            logits = self.backbone.finish(self._states.last(live), alone=True)
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
                if stopping_criteria and bool(stopping_criteria(all_tokens(sequence), own)):
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
        scores = processors(all_tokens(sequence).to(row.device), row[None])[0]
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


_slots_suffice: WeakKeyDictionary[Backbone, bool] = WeakKeyDictionary()


def slots_suffice(backbone: Backbone) -> bool:
    """Whether keys and values by visit are all that layers remember: found out by comparing, on random tokens,
    two rows that go on step by step with the same rows run whole.
    """
    if backbone not in _slots_suffice:
        _slots_suffice[backbone] = backbone.packing is not None and _same_with_slots(backbone)
    return _slots_suffice[backbone]


@torch.inference_mode()
def _same_with_slots(backbone: Backbone) -> bool:
    tokens = backbone.probe_tokens(2, 12).tolist()
    last = backbone.num_layers - 1
    chains = (tuple(range(last + 1)), (*range(last + 1), last, last))
    sequences = [
        Growing(tuple(row[:length]), layers, torch.Generator())
        for row, length, layers in zip(tokens, (5, 9), chains, strict=True)
    ]
    slotted, whole = Slotted(backbone, 0), Recomputed(backbone)
    try:
        for step in range(3):
            found, expected = (backbone.finish(states.last(sequences)) for states in (slotted, whole))
            if not agree(found, expected, backbone.dtype):
                return False
            for sequence, row in zip(sequences, tokens, strict=True):
                sequence.new.append(row[len(sequence.prompt) + step])
    except Exception:  # whatever an architecture trips over, running all tokens again still serves
        return False
    return True
