"""Chains and prompts of different lengths as one batch."""

from collections.abc import Sequence

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


def pad_features(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts ``[T_i, F, H]`` as one batch ``[B, T, F, H]`` and its padding mask ``[B, T]``, True = padding."""
    lengths = torch.tensor([len(tensor) for tensor in features])
    padded = nn.utils.rnn.pad_sequence(list(features), batch_first=True)
    return padded, torch.arange(padded.shape[1])[None, :] >= lengths[:, None]
