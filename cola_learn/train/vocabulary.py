"""Chains as token sequences: disjoint edits in layer order, then a stop token."""

import torch
from torch import Tensor

from cola_learn.chains import Chain, Edit, Repeat, SearchSpace

STOP = 0
_MOST_EDITS = 20_000


class EditVocabulary:
    """One token for every edit of the base chain that a disjoint search space admits, and ``STOP``.

    Args:
        num_layers: N of the backbone.
        space: a space with disjoint edits.

    Attributes:
        factors: operation, start, length and times of every token, ``[len(self), 4]``; ``STOP`` is all zeros.

    Raises:
        ValueError: if the space is nested, whose chains have no canonical edits, or too large.
    """

    def __init__(self, num_layers: int, space: SearchSpace) -> None:
        if space.edits != "disjoint":
            raise ValueError("the controller writes disjoint edits; label with space.edits: disjoint")
        self.num_layers = num_layers
        self.space = space
        self.edits: list[Edit] = space.legal_edits(Chain.base(num_layers))
        if len(self.edits) > _MOST_EDITS:
            raise ValueError(
                f"{len(self.edits):,} edits of {num_layers} layers; a controller knows {_MOST_EDITS:,} at most"
            )
        self._tokens = {edit: token for token, edit in enumerate(self.edits, start=1)}
        with torch.inference_mode(False):  # a controller that is made to be used may be trained later
            self.factors = self._factors()
            self._follows = self._legal_pairs()

    def __len__(self) -> int:
        return len(self.edits) + 1

    def encode(self, chain: Chain) -> list[int]:
        """Tokens of a chain, ``STOP`` last.

        Raises:
            ValueError: if the chain is outside the space.
        """
        return [self._tokens[edit] for edit in self.space.decompose(chain)] + [STOP]

    def decode(self, tokens: list[int]) -> Chain:
        """The chain of a token sequence, with or without its ``STOP``."""
        return Chain.from_edits([self.edits[token - 1] for token in tokens if token != STOP], self.num_layers)

    def _factors(self) -> Tensor:
        """Operation, start, length and times of every token, ``[len(self), 4]``; ``STOP`` is all zeros."""
        rows = [(0, 0, 0, 0)]
        for edit in self.edits:
            operation, times = (2, edit.times) if isinstance(edit, Repeat) else (1, 0)
            rows.append((operation, edit.start, edit.length, times))
        return torch.tensor(rows)

    def _legal_pairs(self) -> Tensor:
        """Whether token j may come right after token i, ``[len(self), len(self)]``; row 0 is the beginning.

        Later edits begin at or behind the end of earlier ones, and a skip is not cut in two where one block
        would do, so that every chain has exactly one sequence.
        """
        operation, start, length, _ = self.factors.unbind(1)
        end = start + length
        allowed = start[None, :] >= end[:, None]
        one_block = (operation[:, None] == 1) & (operation[None, :] == 1) & (start[None, :] == end[:, None])
        allowed &= ~(one_block & (length[:, None] < self.space.max_block))
        allowed[:, STOP] = True
        return allowed

    def legal(self, tokens: Tensor) -> Tensor:
        """Which token may come next: ``[B, L]`` tokens so far, the first column a begin mark, to ``[B, V]``.

        A sequence can never skip every layer: the last one may not be skipped if nothing ran before it.
        """
        factors = self.factors.to(tokens.device)
        allowed = self._follows.to(tokens.device)[tokens[:, -1]]
        operation, start, length, _ = factors.unbind(1)
        skipped = torch.where(operation == 1, length, 0)[tokens].sum(1)
        empties = (operation == 1) & (start + length == self.num_layers)
        all_skipped = skipped[:, None] + length[None, :] == self.num_layers
        return allowed & ~(empties[None, :] & all_skipped)

    def legal_everywhere(self, tokens: Tensor) -> Tensor:
        """``legal`` for every prefix at once: ``[B, L]`` to ``[B, L, V]``."""
        return torch.stack([self.legal(tokens[:, : index + 1]) for index in range(tokens.shape[1])], dim=1)
