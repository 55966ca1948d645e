"""Scoring a chain on a multiple-choice question: log-probability of every option's text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cola_learn.backbone import Backbone, Executor, Row
from cola_learn.chains import Chain
from cola_learn.cli import UserError
from cola_learn.tasks.questions import Sample

Metric = Literal["acc", "acc_norm"]
_POSITIONS_PER_HEAD_CALL = 256
_ROWS_PER_NORMALIZER = 16


@dataclass(frozen=True)
class OptionScores:
    """The score of every option under one chain: sum of token log-probabilities in nats (``acc``), or that
    divided by the option's characters (``acc_norm``). What is right is not known here; ask with a gold index.
    """

    values: tuple[float, ...]

    @property
    def choice(self) -> int:
        """The option the backbone answers with: the best score, the first of equals."""
        return self.values.index(max(self.values))

    def reward(self, gold: int) -> float:
        """1.0 if the answer is ``gold``, else 0.0."""
        return float(self.choice == gold)

    def probability(self, gold: int) -> float:
        """Softmax of the scores at ``gold``: a reward far less noisy than right or wrong."""
        best = max(self.values)
        return math.exp(self.values[gold] - best) / sum(math.exp(value - best) for value in self.values)

    def margin(self, gold: int) -> float:
        """Score of ``gold`` minus the best other score."""
        return self.values[gold] - max(self.values[:gold] + self.values[gold + 1 :])


@dataclass(frozen=True)
class EncodedSample:
    """A sample as rows.

    Attributes:
        rows: one row with all options side by side, or one a option where the backbone cannot pack.
        targets: for each option the row it is in and its scored tokens as (index into ``row.wanted``, token).
    """

    rows: tuple[Row, ...]
    targets: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


def encode(sample: Sample, tokenizer: Any, packed: bool) -> EncodedSample:
    """Tokenise context and continuation together, split where the context alone ends (as the field's
    evaluation harness does), and lay the options out.

    Raises:
        UserError: if a continuation has no tokens of its own.
    """
    full: list[list[int]] = []
    starts: list[int] = []
    for context, continuation in zip(sample.contexts, sample.continuations, strict=True):
        stripped = context.rstrip()
        tokens = tokenizer.encode(context + continuation, add_special_tokens=False)
        start = len(tokenizer.encode(stripped, add_special_tokens=False)) if stripped else 0
        if start == 0:  # nothing to condition on: the model's own beginning of text
            first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
            tokens, start = [first, *tokens], 1
        if start >= len(tokens):
            raise UserError(f"question {sample.key}: option {continuation!r} has no tokens to score")
        full.append(tokens)
        starts.append(start)
    if not packed:
        rows, targets = [], []
        for index, (tokens, start) in enumerate(zip(full, starts, strict=True)):
            rows.append(Row.pack(tokens[:-1], wanted=range(start - 1, len(tokens) - 1), packed=False))
            targets.append((index, tuple(enumerate(tokens[start:]))))
        return EncodedSample(tuple(rows), tuple(targets))
    shared = _shared_prefix(full, min(starts))
    options = [tokens[shared:-1] for tokens in full]
    offset = shared
    positions: list[list[int]] = []
    for tokens, start, option in zip(full, starts, options, strict=True):
        queries = range(start - 1, len(tokens) - 1)  # the position before each scored token predicts it
        positions.append([query if query < shared else offset + query - shared for query in queries])
        offset += len(option)
    wanted = sorted({position for option_positions in positions for position in option_positions})
    place = {position: index for index, position in enumerate(wanted)}
    packed_targets = tuple(
        (0, tuple((place[position], token) for position, token in zip(where, tokens[start:], strict=True)))
        for where, tokens, start in zip(positions, full, starts, strict=True)
    )
    return EncodedSample((Row.pack(full[0][:shared], options, wanted),), packed_targets)


def _shared_prefix(sequences: Sequence[Sequence[int]], limit: int) -> int:
    length = 0
    while length < limit and len({sequence[length] for sequence in sequences}) == 1:
        length += 1
    return length


class Scorer:
    """Scores chains on open samples through an executor.

    Args:
        executor: runs the chains.
        metric: ``acc`` or ``acc_norm``.
        packed: override whether options share a sequence; by default whenever the backbone allows it.
    """

    def __init__(self, executor: Executor, metric: Metric = "acc", packed: bool | None = None) -> None:
        self.executor = executor
        self.backbone: Backbone = executor.backbone
        self.metric = metric
        self.packed = self.backbone.packable if packed is None else packed
        self._open: dict[str, tuple[Sample, EncodedSample, tuple[int, ...]]] = {}

    @property
    def num_layers(self) -> int:
        """N of the backbone."""
        return self.backbone.num_layers

    def open(self, sample: Sample) -> None:
        """Record a sample's rows; it stays open for :meth:`score` until :meth:`close`."""
        encoded = encode(sample, self.backbone.tokenizer, self.packed)
        handles = tuple(self.executor.open(row) for row in encoded.rows)
        self._open[sample.key] = (sample, encoded, handles)

    def close(self, key: str) -> None:
        """Drop an open sample and all that is kept for it."""
        for handle in self._open.pop(key)[2]:
            self.executor.close(handle)

    def rows(self, key: str) -> tuple[Row, ...]:
        """The rows of an open sample."""
        return self._open[key][1].rows

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[OptionScores]:
        """Option scores of each (key of an open sample, chain), in request order."""
        if not requests:
            return []
        asked = [(handle, chain) for key, chain in requests for handle in self._open[key][2]]
        hidden = iter(self.executor.run(asked))
        states: list[Tensor] = []
        places: list[list[tuple[list[int], list[int]]]] = []
        offset = 0
        for key, _ in requests:
            encoded = self._open[key][1]
            row_offsets = []
            for _row in encoded.rows:
                states.append(next(hidden))
                row_offsets.append(offset)
                offset += states[-1].shape[0]
            places.append(
                [
                    ([row_offsets[row] + index for index, _ in targets], [token for _, token in targets])
                    for row, targets in encoded.targets
                ]
            )
        flat = [pair for options in places for pair in options]
        logprobs = self._token_logprobs(
            torch.cat(states),
            torch.tensor([position for positions, _ in flat for position in positions]),
            torch.tensor([token for _, tokens in flat for token in tokens]),
        ).split([len(tokens) for _, tokens in flat])
        sums = iter([float(part.sum()) for part in logprobs])
        scores = []
        for key, _ in requests:
            lengths = self._open[key][0].lengths
            values = [next(sums) for _ in lengths]
            if self.metric == "acc_norm":
                values = [value / length for value, length in zip(values, lengths, strict=True)]
            scores.append(OptionScores(tuple(values)))
        return scores

    @torch.inference_mode()
    def _token_logprobs(self, hidden: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of ``tokens`` ``[K]`` predicted at ``positions`` ``[K]`` of ``hidden`` ``[P, H]``."""
        result = torch.empty(len(tokens), dtype=torch.float64)
        size = min(_POSITIONS_PER_HEAD_CALL, self.backbone.call_tokens)
        for start in range(0, hidden.shape[0], size):
            stop = start + size
            logits = self.backbone.finish(hidden[start:stop])
            # Small slices: whole float32 logits would not fit the caches of a CPU.
            normalizer = torch.cat([part.float().logsumexp(-1) for part in logits.split(_ROWS_PER_NORMALIZER)])
            chosen = (positions >= start) & (positions < stop)
            rows = (positions[chosen] - start).to(logits.device)
            picked = logits[rows, tokens[chosen].to(logits.device)].float() - normalizer[rows]
            result[chosen] = picked.double().cpu()
        return result
