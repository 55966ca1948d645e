"""Runs many (row, chain) requests at once: shared prefixes once, rows that need the same layer together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cola_learn.backbone.recording import Batch, Recording
from cola_learn.backbone.replay import Backbone
from cola_learn.backbone.rows import Row
from cola_learn.backbone.trie import ActivationTrie
from cola_learn.chains import Chain

GIB = 2**30


@dataclass
class Counters:
    """What the executor did, in layers of one row each.

    Attributes:
        requests: (row, chain) pairs asked for.
        layers_asked: layers that running every chain from its beginning would have taken.
        layers_run: layers really run.
        calls: of layers, each with one or more rows.
        tokens: tokens of those layers, padding included.
        padding: padding among them.
    """

    requests: int = 0
    layers_asked: int = 0
    layers_run: int = 0
    calls: int = 0
    tokens: int = 0
    padding: int = 0


@dataclass(eq=False)
class _Walk:
    """A request under way: ``hidden`` ``[T, H]`` is the state after ``done`` layers of the chain."""

    row: int
    layers: tuple[int, ...]
    hidden: Tensor
    done: int

    @property
    def remaining(self) -> int:
        return len(self.layers) - self.done

    @property
    def size(self) -> int:
        return self.hidden.shape[0]

    @property
    def next_layer(self) -> int:
        return self.layers[self.done]


class Executor:
    """Executes chains on rows of one backbone.

    Args:
        backbone: whose layers run.
        cache_bytes: budget of the activation trie; 0 keeps nothing.
        tokens_per_call: most tokens in one layer call. On CPUs a call is best kept within the caches, on a
            GPU it should fill the chip; ``None`` chooses by device.
    """

    def __init__(self, backbone: Backbone, cache_bytes: int = GIB, tokens_per_call: int | None = None) -> None:
        self.backbone = backbone
        self.counters = Counters()
        self._trie = ActivationTrie(cache_bytes)
        self._rows: dict[int, tuple[Row, Recording]] = {}
        self._batches: dict[tuple[int, ...], Batch] = {}
        self._next_handle = 0
        self._tokens_per_call = tokens_per_call or (512 if backbone.device.type == "cpu" else 32768)

    def open(self, row: Row) -> int:
        """Record a row; returns the handle that requests name it by."""
        handle = self._next_handle
        self._next_handle += 1
        self._rows[handle] = (row, self.backbone.record(row))
        return handle

    def close(self, handle: int) -> None:
        """Drop a row and all that is kept for it."""
        del self._rows[handle]
        self._trie.forget(handle)
        self._batches = {rows: batch for rows, batch in self._batches.items() if handle not in rows}

    def embedded(self, handle: int) -> Tensor:
        """The embedded input at the row's wanted positions, ``[len(row.wanted), H]``."""
        row, recording = self._rows[handle]
        return recording.hidden[0, list(row.wanted)]

    @torch.inference_mode()
    def run(self, requests: Sequence[tuple[int, Chain]]) -> list[Tensor]:
        """Final hidden states ``[len(row.wanted), H]`` of each ``(handle, chain)``, in request order."""
        asked: dict[tuple[int, tuple[int, ...]], Tensor | None] = {}
        for handle, chain in requests:
            asked[handle, chain.layers] = None
            self.counters.requests += 1
            self.counters.layers_asked += chain.depth
        walks = [self._start(handle, layers) for handle, layers in asked]
        while walks:
            for walk in self._advance(walks):
                asked[walk.row, walk.layers] = walk.hidden[list(self._rows[walk.row][0].wanted)]
            walks = [walk for walk in walks if walk.remaining]
        results = [asked[handle, chain.layers] for handle, chain in requests]
        return [result for result in results if result is not None]

    def _start(self, handle: int, layers: tuple[int, ...]) -> _Walk:
        hidden, done = self._trie.deepest(handle, layers[:-1])
        return _Walk(handle, layers, self._rows[handle][1].hidden[0] if hidden is None else hidden, done)

    def _advance(self, walks: Sequence[_Walk]) -> list[_Walk]:
        """Run one layer for every walk that needs it next; returns those that arrived at their chain's end.

        The lowest layer goes first: walks that looped back or began early catch up, and all that share the
        rest of their chains run it together. Walks of one row with one prefix are run once.
        """
        layer, size = min((walk.next_layer, walk.size) for walk in walks)
        ready = [walk for walk in walks if walk.next_layer == layer]
        if self.backbone.joins is None:
            ready = [walk for walk in ready if walk.size == size]
            ready = ready if self.backbone.stackable else ready[:1]
        groups: dict[tuple[int, tuple[int, ...]], list[_Walk]] = {}
        room = self._tokens_per_call
        for walk in sorted(ready, key=lambda walk: walk.size):  # neighbours of one length attend together
            key = (walk.row, walk.layers[: walk.done + 1])
            if key not in groups:
                if groups and walk.size > room:
                    break
                room -= walk.size
            groups.setdefault(key, []).append(walk)
        states = self._run_layer(layer, [members[0] for members in groups.values()])
        for state, ((row, prefix), members) in zip(states, groups.items(), strict=True):
            if any(walk.remaining > 1 for walk in members):
                self._trie.put(row, prefix, state)
            for walk in members:
                walk.hidden = state
                walk.done += 1
            self.counters.tokens += len(state)
            self.counters.padding += len(state) - len(self._rows[row][0].tokens)
        self.counters.layers_run += len(groups)
        self.counters.calls += 1
        return [walk for members in groups.values() for walk in members if not walk.remaining]

    def _run_layer(self, layer: int, walks: Sequence[_Walk]) -> Sequence[Tensor]:
        """The states ``[T, H]`` of the walks after one more layer."""
        batch = self._batch(tuple(walk.row for walk in walks))
        hidden = [walk.hidden for walk in walks]
        if batch.end_to_end:
            output = self.backbone.run_layer(layer, torch.cat(hidden)[None], batch)
            return output[0].split([walk.size for walk in walks])
        return self.backbone.run_layer(layer, torch.stack(hidden), batch).unbind()

    def _batch(self, handles: tuple[int, ...]) -> Batch:
        if handles not in self._batches:
            if len(self._batches) >= 64:
                self._batches.pop(next(iter(self._batches)))
            self._batches[handles] = Batch([self._rows[handle][1] for handle in handles], self.backbone.joins)
        return self._batches[handles]
