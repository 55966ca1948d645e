"""Generation through chains. The rows of a batch may each have their own, and every visit of a layer keeps keys and
values of its own: a looped layer must not see what its earlier visit saw.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from cola_learn.backbone import attention
from cola_learn.backbone.attention import Group, Slot
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.recording import Leaf, Recording, map_tree
from cola_learn.backbone.replay import Backbone
from cola_learn.backbone.rows import Row
from cola_learn.backbone.trie import ActivationTrie, default_budget
from cola_learn.backbone.walks import Walk, together
from cola_learn.chains import Chain
from cola_learn.errors import UserError

if TYPE_CHECKING:  # importing transformers takes a second
    from transformers import LogitsProcessorList, StoppingCriteriaList
    from transformers.generation.streamers import BaseStreamer


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen and when a row ends, beside the model's end-of-text token.

    Attributes:
        max_new_tokens: most tokens a row writes.
        temperature: 0 takes the most probable token; above, logits are divided by it and a token is drawn.
        top_k: draw among this many most probable tokens; 0 among all.
        top_p: draw among the most probable tokens that have this probability together.
        stop: a row ends with the token that completes one of these texts; the text stays.
        seed: of the draws. Each row draws for itself, so its company does not matter.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens {self.max_new_tokens} writes nothing; give at least 1")
        if self.temperature < 0:
            raise UserError(f"temperature {self.temperature} is negative; give 0 for greedy or a positive number")
        if self.top_k < 0:
            raise UserError(f"top_k {self.top_k} is negative; give 0 for all tokens or a positive number")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p} is not a probability above 0; give at most 1")

    def warpers(self) -> "LogitsProcessorList":
        """What transformers does to logits for this temperature, top-k and top-p."""
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        if not self.temperature:
            return LogitsProcessorList()
        chosen: list[Any] = [TemperatureLogitsWarper(self.temperature)] if self.temperature != 1 else []
        chosen += [TopKLogitsWarper(self.top_k)] if self.top_k else []
        chosen += [TopPLogitsWarper(self.top_p)] if self.top_p < 1 else []
        return LogitsProcessorList(chosen)


@dataclass(eq=False)
class _Sequence:
    """A row being written; ``slots`` holds what each visit of its chain has seen, once the prompt has run."""

    prompt: tuple[int, ...]
    layers: tuple[int, ...]
    draws: torch.Generator
    new: list[int] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)


class _States(Protocol):
    def last(self, sequences: Sequence[_Sequence]) -> Tensor:
        """Final hidden state of the last token of each, ``[B, H]``."""


class Generator:
    """Writes on from prompts, each through a chain.

    The keys and values of prompts are kept by prefix of the chain, across calls too: a second chain on the same
    prompt runs the prompt only through what is new.

    Args:
        backbone: what runs.
        cache_bytes: budget for what is kept of prompts; by default a share of the free memory.
        cached: keep keys and values between steps; by default wherever that was found to change nothing (the
            architecture runs rows end to end and attention is all that its layers remember). Else every step
            runs all tokens again.
    """

    def __init__(self, backbone: Backbone, cache_bytes: int | None = None, cached: bool | None = None) -> None:
        self.backbone = backbone
        self.cached = slots_suffice(backbone) if cached is None else cached
        self._states: _States = _Slotted(backbone, cache_bytes) if self.cached else _Recomputed(backbone)

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
            _Sequence(tuple(prompt), chain.layers, torch.Generator().manual_seed(decoding.seed + index))
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
    sequences: Sequence[_Sequence], logits: Tensor, processors: "LogitsProcessorList", decoding: Decoding
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


def _all_tokens(sequence: _Sequence) -> Any:
    return torch.tensor([[*sequence.prompt, *sequence.new]])


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

    def last(self, sequences: Sequence[_Sequence]) -> Tensor:
        rows = [[*sequence.prompt, *sequence.new] for sequence in sequences]
        handles = [self._executor.open(Row.pack(row, wanted=[len(row) - 1], packed=False)) for row in rows]
        chains = [Chain(sequence.layers, self._executor.backbone.num_layers) for sequence in sequences]
        hidden = self._executor.run(list(zip(handles, chains, strict=True)))
        for handle in handles:
            self._executor.close(handle)
        return torch.cat(hidden)


@dataclass(eq=False, kw_only=True)
class _NewTokens(Walk):
    """New tokens of a row; ``start`` is the position of the first one, ``slots`` are its row's."""

    tokens: Sequence[int]
    start: int
    slots: list[Slot]


class _Slotted:
    """Runs a prompt once and then only new tokens, which attend to the slots of their row and visit."""

    def __init__(self, backbone: Backbone, cache_bytes: int | None) -> None:
        assert backbone.joins is not None
        self._backbone = backbone
        self._joins = backbone.joins
        self._trie = ActivationTrie(default_budget(backbone.device) if cache_bytes is None else cache_bytes)
        self._masks: tuple[Tensor | None, ...] = ()
        self._masked = 0
        self._call_tokens = backbone.call_tokens

    def last(self, sequences: Sequence[_Sequence]) -> Tensor:
        fresh = not sequences[0].new  # all rows are at the same step
        walks = [
            _NewTokens(
                s.prompt if fresh else s,
                s.layers,
                torch.empty(0),  # until they are recorded
                tokens=s.prompt if fresh else s.new[-1:],
                start=0 if fresh else len(s.prompt) + len(s.new) - 1,
                slots=s.slots,
            )
            for s in sequences
        ]
        step = self._record(walks)
        if fresh:
            for walk in walks:
                for hidden, *seen in self._trie.path(walk.row, walk.layers):
                    walk.hidden, walk.done = hidden, walk.done + 1
                    walk.slots.append(Slot(*seen))
        while active := [walk for walk in walks if walk.done < len(walk.layers)]:
            self._advance(active, step, fresh)
        return torch.stack([walk.hidden[-1].to(self._backbone.places[-1]) for walk in walks])

    def _record(self, walks: Sequence[_NewTokens]) -> "_Step":
        """Embed the tokens of all walks in one forward with stubs, and record what layers are given for them."""
        rows = {walk.row: walk for walk in walks}
        tokens = [token for walk in rows.values() for token in walk.tokens]
        positions = [walk.start + index for walk in rows.values() for index in range(len(walk.tokens))]
        device = self._backbone.device
        with attention.rows(()):  # whose masks are made here, below
            recording = self._backbone.record_inputs(
                input_ids=torch.tensor([tokens], device=device), position_ids=torch.tensor([positions], device=device)
            )
        places, offset = {}, 0
        for row, walk in rows.items():
            places[row] = (offset, offset + len(walk.tokens))
            offset += len(walk.tokens)
        for walk in walks:
            walk.hidden = recording.hidden[0, slice(*places[walk.row])]
        return _Step(recording, self._joins, places, self._masks_up_to(max(positions) + 1))

    def _masks_up_to(self, length: int) -> tuple[Tensor | None, ...]:
        """For every layer the mask of a row of at least ``length`` tokens, ``[1, 1, T, T]``, or None for causal."""
        if self._masked < length:
            self._masked = min(length + length // 2, max(length, self._backbone.max_tokens))
            tokens = torch.zeros(1, self._masked, dtype=torch.long, device=self._backbone.device)
            self._masks = self._backbone.record_inputs(input_ids=tokens).masks
        return self._masks

    def _advance(self, walks: Sequence[_NewTokens], step: "_Step", fresh: bool) -> None:
        """Run the lowest layer that any walk needs next, for all that need it."""
        layer = min(walk.next_layer for walk in walks)
        groups = together([walk for walk in walks if walk.next_layer == layer], self._call_tokens)
        leaders = [members[0] for members in groups.values()]
        slots = [Slot() if fresh else leader.slots[leader.done] for leader in leaders]
        states = self._backbone.run_rows(layer, [leader.hidden for leader in leaders], step.of(leaders, slots))
        for state, slot, ((row, prefix), members) in zip(states, slots, groups.items(), strict=True):
            if fresh:
                kept = (state.clone(), *(seen.clone() for seen in slot.kept))  # a view would keep the whole batch
                self._trie.put(row, prefix, kept)
            for walk in members:
                walk.hidden, walk.done = state, walk.done + 1
                if fresh:
                    walk.slots.append(Slot(*kept[1:]))


@dataclass(frozen=True, eq=False)
class _Step:
    """What layers are given for the new tokens of all rows: one recording, from which those of some are taken."""

    recording: Recording
    joins: Sequence[int | None]
    places: dict[Hashable, tuple[int, int]]
    masks: tuple[Tensor | None, ...]
    _leaves: dict[tuple[Hashable, ...], list[Tensor]] = field(default_factory=dict)

    def of(self, walks: Sequence[_NewTokens], slots: Sequence[Slot]) -> "_Together":
        rows = tuple(walk.row for walk in walks)
        if rows not in self._leaves:
            self._leaves[rows] = self._taken(rows)
        return _Together(self, self._leaves[rows], walks, slots)

    def _taken(self, rows: tuple[Hashable, ...]) -> list[Tensor]:
        if rows == tuple(self.places):
            return list(self.recording.leaves)
        tokens = [token for row in rows for token in range(*self.places[row])]
        index = torch.tensor(tokens, device=self.recording.hidden.device)
        pairs = zip(self.recording.leaves, self.joins, strict=True)
        return [leaf if place is None else leaf.index_select(place, index) for leaf, place in pairs]


@dataclass(frozen=True, eq=False)
class _Together:
    """Some rows' new tokens as :meth:`Backbone.run_layer` takes them."""

    step: _Step
    leaves: list[Tensor]
    walks: Sequence[_NewTokens]
    slots: Sequence[Slot]
    end_to_end: bool = True

    def arguments(self, layer: int) -> tuple[Any, dict[str, Any]]:
        args, kwargs = map_tree(self.step.recording.calls[layer], Leaf, lambda leaf: self.leaves[leaf.index])
        return args, kwargs

    def layout(self, layer: int) -> list[Group]:
        mask = self.step.masks[layer]
        groups = []
        for walk, slot in zip(self.walks, self.slots, strict=True):
            count, end = len(walk.tokens), walk.start + len(walk.tokens)
            visible = None if mask is None else mask[:, :, walk.start : end, :end]
            groups.append(Group(1, count, visible, slot))
        return groups


_slots_suffice: WeakKeyDictionary[Backbone, bool] = WeakKeyDictionary()


def slots_suffice(backbone: Backbone) -> bool:
    """Whether keys and values by visit are all that layers remember: found out by comparing, on random tokens,
    two rows that go on step by step with the same rows run whole.
    """
    if backbone not in _slots_suffice:
        _slots_suffice[backbone] = backbone.joins is not None and _same_with_slots(backbone)
    return _slots_suffice[backbone]


@torch.inference_mode()
def _same_with_slots(backbone: Backbone) -> bool:
    tokens = backbone.probe_tokens(2, 12).tolist()
    last = backbone.num_layers - 1
    chains = (tuple(range(last + 1)), (*range(last + 1), last, last))
    sequences = [
        _Sequence(tuple(row[:length]), layers, torch.Generator())
        for row, length, layers in zip(tokens, (5, 9), chains, strict=True)
    ]
    slotted, whole = _Slotted(backbone, 0), _Recomputed(backbone)
    try:
        for step in range(3):
            found, expected = (backbone.finish(states.last(sequences)) for states in (slotted, whole))
            if not backbone.close(found, expected):
                return False
            for sequence, row in zip(sequences, tokens, strict=True):
                sequence.new.append(row[len(sequence.prompt) + step])
    except Exception:  # whatever an architecture trips over, running all tokens again still serves
        return False
    return True
