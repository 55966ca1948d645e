"""Rows, the sequences that the executor runs, and walks: rows on their way through their chains."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

BUCKET = 8  # rows that have to be stacked are padded to a multiple of this


@dataclass(frozen=True)
class Row:
    """A token sequence.

    Attributes:
        tokens: token ids, ``[T]``.
        prompt_length: tokens that all options share.
        option_lengths: tokens of each option behind the prompt; options see the prompt and themselves only.
        wanted: positions whose final hidden states are needed, ascending.
        own_mask: whether the row needs its own mask and positions: several options behind one prompt.
    """

    tokens: tuple[int, ...]
    prompt_length: int
    option_lengths: tuple[int, ...]
    wanted: tuple[int, ...]
    own_mask: bool

    @classmethod
    def plain(cls, tokens: Sequence[int], wanted: Sequence[int] | None = None) -> "Row":
        """A sequence as the model reads any other; ``wanted`` defaults to every position."""
        return cls(tuple(tokens), len(tokens), (), tuple(range(len(tokens)) if wanted is None else wanted), False)

    @classmethod
    def with_options(
        cls, prompt: Sequence[int], options: Sequence[Sequence[int]], wanted: Sequence[int] | None = None
    ) -> "Row":
        """A prompt with options side by side behind it; ``wanted`` defaults to every position."""
        tokens = (*prompt, *(token for option in options for token in option))
        places = tuple(range(len(tokens)) if wanted is None else wanted)
        return cls(tokens, len(prompt), tuple(map(len, options)), places, True)

    def model_inputs(self, device: torch.device, dtype: torch.dtype, bucket: int | None = None) -> dict[str, Any]:
        """Keyword arguments for the model's forward, batch size 1.

        With ``bucket`` there is padding behind the row, up to a multiple of it; no real token sees it. A row with
        options brings an additive 4-D mask ``[1, 1, T, T]`` and positions ``[1, T]`` that restart after the prompt for
        every option; for others the model's own causal mask serves.
        """
        size = len(self.tokens)
        if bucket is not None:
            size = -(-size // bucket) * bucket
        tokens = torch.tensor([self.tokens + self.tokens[-1:] * (size - len(self.tokens))], device=device)
        if not self.own_mask:
            return {"input_ids": tokens}
        segment = [0] * self.prompt_length
        position = list(range(self.prompt_length))
        tail = size - self.prompt_length - sum(self.option_lengths)
        for index, count in enumerate((*self.option_lengths, tail), start=1):
            segment += [index] * count
            position += range(self.prompt_length, self.prompt_length + count)
        segments = torch.tensor(segment)
        visible = torch.ones(size, size, dtype=torch.bool).tril()
        visible &= (segments[:, None] == segments[None, :]) | (segments[None, :] == 0)
        mask = torch.zeros(size, size, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
        return {
            "input_ids": tokens,
            "attention_mask": mask[None, None].to(device),
            "position_ids": torch.tensor([position], device=device),
        }


@dataclass(eq=False)
class Walk:
    """A row on its way through a chain: ``hidden`` ``[T, H]`` is its state after ``done`` layers.

    With ``keep_end`` other chains go on from its end.
    """

    row: Hashable
    layers: tuple[int, ...]
    hidden: Tensor
    done: int = 0
    keep_end: bool = False

    @property
    def size(self) -> int:
        return self.hidden.shape[0]

    @property
    def remaining(self) -> int:
        return len(self.layers) - self.done

    @property
    def next_layer(self) -> int:
        return self.layers[self.done]


AnyWalk = TypeVar("AnyWalk", bound=Walk)


def together(walks: Iterable[AnyWalk], room: int) -> dict[tuple[Hashable, tuple[int, ...]], list[AnyWalk]]:
    """Those of the walks, all before the same layer, whose tokens find room, by row and prefix after that layer.

    Walks of one row with one prefix are the same until they part, and run as one.
    """
    groups: dict[tuple[Hashable, tuple[int, ...]], list[AnyWalk]] = {}
    for walk in walks:
        key = (walk.row, walk.layers[: walk.done + 1])
        if key not in groups:
            if groups and walk.size > room:
                continue
            room -= walk.size
        groups.setdefault(key, []).append(walk)
    return groups
