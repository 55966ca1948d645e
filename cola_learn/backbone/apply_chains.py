"""A chain for every row of a batch, inside one transformers model: the rows run together wherever they share layers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from cola_learn.backbone.apply_chain import apply_chain
from cola_learn.backbone.beginning import Around, Beginning
from cola_learn.backbone.layers import find_layers
from cola_learn.backbone.recording import map_tree
from cola_learn.chains import Chain


@contextmanager
def apply_chains(model: Any, chains: Sequence[Chain], beginning: Beginning | None = None) -> Iterator[Any]:
    """Within the block, row ``i`` of every batch runs ``chains[i]``.

    In a batch of ``k`` times as many rows, as for several samples a prompt, each chain has ``k`` neighbouring rows.

    The model runs the shortest list of layers that holds all chains. A layer is given only the rows that need it, and
    its slot in the key-value cache holds only these, so what reorders a whole cache, as beams do, cannot be used.

    Args:
        model: a causal LM of transformers.
        chains: one for each row, of this model.
        beginning: what the first layers made of the batch, if they have run: where all chains begin with them they are
            not run again.

    Raises:
        UserError: as ``apply_chain``.
    """
    union = reduce(supersequence, dict.fromkeys(chain.layers for chain in chains))
    with (applied := apply_chain(model, Chain(union, chains[0].num_layers))):
        applied.runs(*(chains if len(set(chains)) > 1 else chains[:1]))
        layers = find_layers(model, type(model).__name__)
        needed: list[list[int]] = [[] for _ in union]
        for row, chain in enumerate(chains):
            for place in _places(chain.layers, union):
                needed[place].append(row)
        for place, rows in enumerate(needed):
            if len(rows) < len(chains):
                layers[place] = _SomeRows(layers[place], rows, len(chains))
        if beginning and beginning.resumes:
            first = tuple(range(beginning.depth))
            if all(chain.layers[: beginning.depth] == first for chain in chains):
                for place, layer in enumerate(beginning.given(layers)):
                    layers[place] = layer
        yield model


def supersequence(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """A shortest sequence that holds both, by dynamic programming."""
    rest = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]  # the length of what is behind each pair of places
    for a in range(len(one), -1, -1):
        for b in range(len(other), -1, -1):
            if a == len(one) or b == len(other):
                rest[a][b] = len(one) - a + len(other) - b
            elif one[a] == other[b]:
                rest[a][b] = 1 + rest[a + 1][b + 1]
            else:
                rest[a][b] = 1 + min(rest[a + 1][b], rest[a][b + 1])
    found, a, b = [], 0, 0
    while a < len(one) and b < len(other):
        if one[a] == other[b]:
            found.append(one[a])
            a, b = a + 1, b + 1
        elif rest[a + 1][b] <= rest[a][b + 1]:
            found.append(one[a])
            a += 1
        else:
            found.append(other[b])
            b += 1
    return (*found, *one[a:], *other[b:])


def _places(layers: Sequence[int], union: Sequence[int]) -> Iterator[int]:
    """Where a sequence lies within one that holds it."""
    place = 0
    for layer in layers:
        while union[place] != layer:
            place += 1
        yield place
        place += 1


class _SomeRows(Around):
    """A layer that some rows of a batch run; the others pass by unchanged."""

    def __init__(self, layer: nn.Module, rows: Sequence[int], batch: int) -> None:
        super().__init__(layer)
        self._rows, self._batch = rows, batch

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        each = hidden.shape[0] // self._batch
        index = torch.tensor([row * each + more for row in self._rows for more in range(each)], device=hidden.device)

        batch, tokens = hidden.shape[:2]

        def own(value: Tensor) -> Tensor:
            of_tokens = value.dim() == 2 and batch == tokens != value.shape[1]  # not of the batch, which is as large
            return value if value.dim() < 2 or len(value) != batch or of_tokens else value[index]

        args, kwargs = map_tree((args, kwargs), Tensor, own)
        output = self.layer(hidden[index], *args, **kwargs)
        state = output[0] if isinstance(output, tuple | list) else output
        whole = hidden.index_copy(0, index, state)
        return (whole, *output[1:]) if isinstance(output, tuple | list) else whole
