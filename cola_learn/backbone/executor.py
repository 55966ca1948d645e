"""Runs many (row, chain) requests at once: shared prefixes once, rows that need the same layer in one batch."""

from collections.abc import Hashable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.probes import Capabilities
from cola_learn.backbone.recording import Batch, Recording
from cola_learn.backbone.rows import BUCKET, Row, Walk, together
from cola_learn.backbone.trie import ActivationTrie, Room, default_budget
from cola_learn.chains import Chain
from cola_learn.errors import UserError

_GPU_BUCKET = 32  # tokens


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


@dataclass(frozen=True)
class Usage:
    """What running chains cost: counts that add up over executors, but for the peak.

    Attributes:
        layers_asked, layers_run: layers of the chains asked for, and of those the layers really run.
        lookups, hits: of the prefix cache.
        tokens, padding: that layers ran on, and padding among them.
        peak_bytes: most memory for kept states in any executor.
    """

    layers_asked: int = 0
    layers_run: int = 0
    lookups: int = 0
    hits: int = 0
    tokens: int = 0
    padding: int = 0
    peak_bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        sums = [mine + others for mine, others in zip(astuple(self), astuple(other), strict=True)]
        return replace(Usage(*sums), peak_bytes=max(self.peak_bytes, other.peak_bytes))

    def __sub__(self, earlier: "Usage") -> "Usage":
        differences = [mine - others for mine, others in zip(astuple(self), astuple(earlier), strict=True)]
        return replace(Usage(*differences), peak_bytes=self.peak_bytes)

    def shares(self) -> dict[str, float]:
        """Shares of layers that need not run, of lookups that found a kept state, and of padding."""
        return {
            "layers_saved": 1 - self.layers_run / max(1, self.layers_asked),
            "cache_hit_rate": self.hits / max(1, self.lookups),
            "padding": self.padding / max(1, self.tokens),
        }


class Executor:
    """Executes chains on rows of one backbone.

    Args:
        backbone: whose layers run.
        cache_bytes: budget of the activation trie; 0 keeps nothing, by default a share of the free memory.
        call_tokens: most tokens in one layer call; by default as the backbone says.
        bucket: rows attend in one call where their lengths differ by less, see ``Batch``; by default none on a
            CPU.

    Attributes:
        room: how many tokens a call has at most; less after it ran out of memory.
    """

    def __init__(
        self,
        backbone: Backbone,
        cache_bytes: int | None = None,
        call_tokens: int | None = None,
        bucket: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.counters = Counters()
        self.trie = ActivationTrie(default_budget(backbone.device) if cache_bytes is None else cache_bytes)
        self._rows: dict[Hashable, tuple[Row, Recording, Tensor]] = {}  # with the places that are wanted
        self._batches: dict[tuple[tuple[Hashable, ...], int], Batch] = {}
        self._next_handle = 0
        self.room = Room(call_tokens or backbone.call_tokens, self.trie)
        self._bucket = bucket or (1 if backbone.device.type == "cpu" else _GPU_BUCKET)
        self._fillers: dict[int, Recording] = {}

    @property
    def _can(self) -> Capabilities:
        return self.backbone.capabilities

    def open(self, row: Row) -> int:
        """Record a row; returns the handle that requests name it by."""
        handle = self._next_handle
        self._next_handle += 1
        recording = self.backbone.record(row, BUCKET if self._can.packing is None else None)
        self._rows[handle] = row, recording, torch.tensor(row.wanted).to(self.backbone.places[-1])
        return handle

    def tokens(self, handle: int) -> Sequence[int]:
        """The tokens of an open row."""
        return self._rows[handle][0].tokens

    def close(self, handle: int) -> None:
        """Drop a row and all that is kept for it."""
        del self._rows[handle]
        self.trie.forget(handle)
        self._batches = {key: batch for key, batch in self._batches.items() if handle not in key[0]}

    @property
    def usage(self) -> Usage:
        """What running chains cost so far."""
        counters, trie = self.counters, self.trie
        return Usage(
            counters.layers_asked,
            counters.layers_run,
            trie.lookups,
            trie.hits,
            counters.tokens,
            counters.padding,
            trie.peak_bytes,
        )

    @torch.inference_mode()
    def run(self, requests: Sequence[tuple[int, Chain]], whole: bool = False) -> list[Tensor]:
        """Final hidden states ``[len(row.wanted), H]`` of each ``(handle, chain)``, in request order; if they are to be
        ``whole``, those of all tokens ``[T, H]``, kept for chains that go on from there."""
        asked: dict[tuple[Hashable, tuple[int, ...]], Tensor | None] = {}
        for handle, chain in requests:
            asked[handle, chain.layers] = None
            self.counters.requests += 1
            self.counters.layers_asked += chain.depth
        walks = [self._start(handle, layers, whole) for handle, layers in asked]
        while walks:
            for walk in self.room.fit(partial(self._advance, walks)):
                row, _, wanted = self._rows[walk.row]
                state = walk.hidden.to(wanted.device)
                asked[walk.row, walk.layers] = state[: len(row.tokens)] if whole else state[wanted]
            walks = [walk for walk in walks if walk.remaining]
        results = [asked[handle, chain.layers] for handle, chain in requests]
        return [result for result in results if result is not None]

    def read(self, handles: Sequence[int], layers: Sequence[int]) -> list[Tensor]:
        """The states ``[T, F, H]`` of all tokens of each row after some numbers of its first layers (0 is the embedding
        layer), in bfloat16 on the CPU: what a controller reads. Chains that begin with these layers go on from there,
        as far as the prefix cache keeps them.

        Raises:
            UserError: if any is not finite.
        """
        chains = [Chain(tuple(range(depth)), self.backbone.num_layers) for depth in sorted(set(layers) - {0})]
        found = iter(self.run([(handle, chain) for handle in handles for chain in chains], whole=True))
        rows = []
        for handle in handles:
            row, recording, _ = self._rows[handle]
            states = {0: recording.hidden[0][: len(row.tokens)]} | {chain.depth: next(found) for chain in chains}
            if not all(bool(state.isfinite().all()) for state in states.values()):
                raise UserError(
                    f"hidden states of a prompt are not finite in {self.backbone.dtype_name} within the first "
                    f"{max(layers)} layers; the weights are damaged or overflow: try dtype bfloat16 or float32"
                )
            rows.append(torch.stack([states[depth].to("cpu", torch.bfloat16) for depth in layers], dim=1))
        return rows

    def _start(self, handle: Hashable, layers: tuple[int, ...], keep_end: bool) -> Walk:
        state, done = self.trie.deepest(handle, layers[:-1])
        return Walk(handle, layers, state[0] if state else self._rows[handle][1].hidden[0], done, keep_end)

    def _advance(self, walks: Sequence[Walk], call_tokens: int) -> list[Walk]:
        """Run one layer for every walk that needs it next; returns those that arrived at their chain's end.

        The lowest layer goes first: walks that looped back or began early catch up, and all that share the
        rest of their chains run it together. Walks of one row with one prefix are run once.
        """
        layer, size = min((walk.next_layer, walk.size) for walk in walks)
        ready = [walk for walk in walks if walk.next_layer == layer]
        if self._can.packing is None:
            ready = [walk for walk in ready if walk.size == size]
            ready = ready if self._can.stackable else ready[:1]
        ready.sort(key=lambda walk: walk.size)  # neighbours of one length attend together
        groups = together(ready, call_tokens)
        states = self._run_layer(layer, [members[0] for members in groups.values()])
        going_on = [any(walk.remaining > 1 or walk.keep_end for walk in members) for members in groups.values()]
        copied = self._copied(states, going_on)
        for state, copy, ((row, prefix), members) in zip(states, copied, groups.items(), strict=True):
            if copy is not None:
                self.trie.put(row, prefix, (copy,))
            for walk in members:
                walk.hidden = state
                walk.done += 1
            self.counters.tokens += len(state)
            self.counters.padding += len(state) - len(self._rows[row][0].tokens)
        self.counters.layers_run += len(groups)
        self.counters.calls += 1
        return [walk for members in groups.values() for walk in members if not walk.remaining]

    def _run_layer(self, layer: int, walks: Sequence[Walk]) -> Sequence[Tensor]:
        """The states ``[T, H]`` of the walks after one more layer; the call is filled up as the backbone wants it."""
        missing = self._can.missing(sum(walk.size for walk in walks))
        batch = self._batch(tuple(walk.row for walk in walks), missing)
        states = [walk.hidden for walk in walks]
        if missing:
            states.append(self._filler(missing).hidden[0])
            self.counters.padding += missing
            self.counters.tokens += missing
        return self.backbone.run_rows(layer, states, batch)[: len(walks)]

    def _copied(self, states: Sequence[Tensor], wanted: Sequence[bool]) -> Sequence[Tensor | None]:
        """Copies of the wanted states. They are parts of one tensor, all of which a part that is kept would keep."""
        kept = [state for state, keep in zip(states, wanted, strict=True) if keep and self.trie.budget_bytes]
        if not kept:
            return [None] * len(states)
        parts: Any = torch.split_with_sizes_copy(torch.cat(kept), [*map(len, kept)])  # type: ignore[func-returns-value]
        copies = iter(parts)
        return [next(copies) if keep else None for keep in wanted]

    def _batch(self, handles: tuple[Hashable, ...], filler: int) -> Batch:
        if (handles, filler) not in self._batches:
            if len(self._batches) >= 64:
                self._batches.pop(next(iter(self._batches)))
            recordings = [self._rows[handle][1] for handle in handles]
            self._batches[handles, filler] = Batch(
                [*recordings, self._filler(filler)] if filler else recordings, self._can.packing, self._bucket
            )
        return self._batches[handles, filler]

    def _filler(self, tokens: int) -> Recording:
        """A row of so many tokens that mean nothing."""
        if tokens not in self._fillers:
            self._fillers[tokens] = self.backbone.record(Row.plain([0] * tokens))
        return self._fillers[tokens]
