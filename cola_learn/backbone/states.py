"""Hidden states of rows that grow token by token, with keys and values by visit of a layer."""

import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cola_learn.backbone import attention
from cola_learn.backbone.attention import Group, Slot
from cola_learn.backbone.recording import Leaf, Recording, map_tree
from cola_learn.backbone.replay import Replay
from cola_learn.backbone.rows import Walk, together
from cola_learn.backbone.trie import ActivationTrie, Room, default_budget


@dataclass(eq=False)
class Growing:
    """A row being written; ``slots`` holds what each visit of its chain has seen, once the prompt has run."""

    prompt: tuple[int, ...]
    layers: tuple[int, ...]
    new: list[int] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)


@dataclass(eq=False, kw_only=True)
class _NewTokens(Walk):
    """New tokens of a row; ``start`` is the position of the first one, ``slots`` are its row's."""

    tokens: Sequence[int]
    start: int
    slots: list[Slot]


class Slotted:
    """Runs a prompt once and then only new tokens, which attend to the slots of their row and visit."""

    def __init__(
        self,
        replay: Replay,
        packing: Sequence[int | None],
        cache_bytes: int | None,
        call_tokens: int = sys.maxsize,
    ) -> None:
        self._replay = replay
        self._packing = packing
        self._trie = ActivationTrie(default_budget(replay.device) if cache_bytes is None else cache_bytes)
        self._masks: tuple[Tensor | None, ...] = ()
        self._masked = 0
        self._room = Room(call_tokens, self._trie)

    def last(self, sequences: Sequence[Growing]) -> Tensor:
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
            advance = partial(self._advance, active, step, fresh)
            if fresh:
                self._room.fit(advance)
            else:  # slots grow as it runs, so that it cannot be run again; but few tokens take little
                advance(self._room.tokens)
        return torch.stack([walk.hidden[-1].to(self._replay.places[-1]) for walk in walks])

    def _record(self, walks: Sequence[_NewTokens]) -> "_Step":
        """Embed the tokens of all walks in one forward with stubs, and record what layers are given for them."""
        rows = {walk.row: walk for walk in walks}
        tokens = [token for walk in rows.values() for token in walk.tokens]
        positions = [walk.start + index for walk in rows.values() for index in range(len(walk.tokens))]
        device = self._replay.device
        with attention.rows(()):  # whose masks are made here, below
            recording = self._replay.record_inputs(
                input_ids=torch.tensor([tokens], device=device), position_ids=torch.tensor([positions], device=device)
            )
        places, offset = {}, 0
        for row, walk in rows.items():
            places[row] = (offset, offset + len(walk.tokens))
            offset += len(walk.tokens)
        for walk in walks:
            walk.hidden = recording.hidden[0, slice(*places[walk.row])]
        return _Step(recording, self._packing, places, self._masks_up_to(max(positions) + 1))

    def _masks_up_to(self, length: int) -> tuple[Tensor | None, ...]:
        """For every layer the mask of a row of at least ``length`` tokens, ``[1, 1, T, T]``, or None for causal."""
        if self._masked < length:
            self._masked = min(length + length // 2, max(length, self._replay.max_tokens))
            tokens = torch.zeros(1, self._masked, dtype=torch.long, device=self._replay.device)
            self._masks = self._replay.record_inputs(input_ids=tokens).masks
        return self._masks

    def _advance(self, walks: Sequence[_NewTokens], step: "_Step", fresh: bool, call_tokens: int) -> None:
        """Run the lowest layer that any walk needs next, for all that need it."""
        layer = min(walk.next_layer for walk in walks)
        groups = together([walk for walk in walks if walk.next_layer == layer], call_tokens)
        leaders = [members[0] for members in groups.values()]
        slots = [Slot() if fresh else leader.slots[leader.done] for leader in leaders]
        states = self._replay.run_rows(layer, [leader.hidden for leader in leaders], step.of(leaders, slots))
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
    packing: Sequence[int | None]
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
        pairs = zip(self.recording.leaves, self.packing, strict=True)
        return [leaf if place is None else leaf.index_select(place, index) for leaf, place in pairs]


@dataclass(frozen=True, eq=False)
class _Together:
    """Some rows' new tokens as ``Replay.run_layer`` takes them."""

    step: _Step
    leaves: list[Tensor]
    walks: Sequence[_NewTokens]
    slots: Sequence[Slot]
    packed: bool = True

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
