"""Chains and prompts of different lengths as one batch."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy
import torch
from torch import Tensor, nn

from cola_learn.train.vocabulary import STOP


def join_sequences(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token sequences that end with a stop token as one tensor ``[C, L + 1]``, begin mark first and stop tokens behind,
    and their lengths ``[C]``."""
    longest = max(map(len, sequences), default=0)
    rows = [[STOP, *sequence, *[STOP] * (longest - len(sequence))] for sequence in sequences]
    return torch.tensor(rows, dtype=torch.long), torch.tensor([len(sequence) for sequence in sequences])


def mean_token(features: Tensor, padding: Tensor) -> Tensor:
    """Prompts ``[B, T, F, H]`` as vectors ``[B, F H]``."""
    real = (~padding)[:, :, None, None]
    return ((features * real).sum(1) / real.sum(1)).flatten(1)


def mean_and_last_token(features: Tensor, padding: Tensor) -> Tensor:
    """Prompts ``[B, T, F, H]`` as vectors ``[B, 2 F H]``: their mean token and their last one."""
    last = (~padding).sum(1) - 1
    ends = features[torch.arange(len(features), device=features.device), last]
    return torch.cat([mean_token(features, padding), ends.flatten(1)], dim=1)


def pad_features(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts ``[T_i, F, H]`` as one batch ``[B, T, F, H]`` and its padding mask ``[B, T]``, True = padding."""
    lengths = torch.tensor([len(tensor) for tensor in features])
    padded = nn.utils.rnn.pad_sequence(list(features), batch_first=True)
    return padded, torch.arange(padded.shape[1])[None, :] >= lengths[:, None]


@dataclass(frozen=True)
class Example:
    """One labelled prompt.

    Attributes:
        features: ``[T, F, H]``.
        sequences: token sequences of its chains.
        weights: of the sequences as things to imitate; they add up to 1, or are all 0 where none is good.
        gains: what each gains over the base chain in soft reward.
        depths: layers that each runs, as a share of the base chain's.
        task: where the question is from.
    """

    features: Tensor
    sequences: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    gains: tuple[float, ...] = ()
    depths: tuple[float, ...] = ()
    task: str = ""


class TrainingBatch(NamedTuple):
    """B examples joined, with up to C chains each; where one has fewer, its row is filled with its first.

    Attributes:
        features: ``[B, T, F, H]``.
        padding: ``[B, T]``, True = padding.
        tokens: begin mark, edits, then stop tokens, ``[B, C, L + 1]``.
        lengths: edits and one stop token of each chain, ``[B, C]``.
        weights: of each chain as a thing to imitate, ``[B, C]``.
        gains: of each chain over the base chain, in soft reward, ``[B, C]``.
        spreads: how far each chain's gains lie apart among all questions (standard deviation), ``[B, C]``.
        depths: of each chain, as a share of the base chain's, ``[B, C]``.
        real: 0 where a row is filled, else 1, ``[B, C]``.
    """

    features: Tensor
    padding: Tensor
    tokens: Tensor
    lengths: Tensor
    weights: Tensor
    gains: Tensor
    spreads: Tensor
    depths: Tensor
    real: Tensor


Spreads = Mapping[tuple[int, ...], float]
_FEWEST = 20  # questions that a spread is taken of


def spreads_of(examples: Iterable[Example]) -> Spreads:
    """The standard deviation of each chain's gains, by its token sequence, where there are enough; their mean under
    ``()``."""
    gains: defaultdict[tuple[int, ...], list[float]] = defaultdict(list)
    for example in examples:
        for sequence, gain in zip(example.sequences, example.gains, strict=True):
            gains[sequence].append(gain)
    found = {sequence: float(numpy.std(own)) for sequence, own in gains.items() if len(own) >= _FEWEST}
    every = list(found.values()) or [1.0]
    return found | {(): sum(every) / len(every)}


def collate(examples: Sequence[Example], spreads: Spreads = MappingProxyType({(): 1.0})) -> TrainingBatch:
    features, padding = pad_features([example.features for example in examples])
    most = max(len(example.sequences) for example in examples)
    sequences = [
        sequence
        for example in examples
        for sequence in (*example.sequences, *example.sequences[:1] * (most - len(example.sequences)))
    ]
    tokens, lengths = join_sequences(sequences)

    def filled(name: str) -> Tensor:
        rows = [getattr(example, name) for example in examples]
        return torch.tensor([[*row, *[0.0] * (most - len(row))] for row in rows])

    shape = (len(examples), most)
    real = torch.tensor([[place < len(example.sequences) for place in range(most)] for example in examples]).float()
    weights, gains, depths = map(filled, ("weights", "gains", "depths"))
    # What is known of few questions counts by its own size: searches try chains that ruin a prompt.
    known = torch.tensor([spreads.get(sequence, -1.0) for sequence in sequences]).view(shape)
    spread = torch.where(known >= 0, known, gains.abs().clamp(min=spreads[()]))
    joined = (features, padding, tokens.view(*shape, -1), lengths.view(shape))
    return TrainingBatch(*joined, weights, gains, spread, depths, real)
