"""Questions as token rows, and log-probabilities of their continuations through chains, in one teacher-forced pass."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cola_learn.backbone.executor import Executor
from cola_learn.backbone.rows import Row
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.tasks.questions import Sample

_POSITIONS_PER_HEAD_CALL = 256
_ROWS_PER_NORMALIZER = 16

Leads = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From logits ``[P, V]``, rows ``[K]``, tokens ``[K]`` and which of these end a continuation ``[K]``: by how much each
token leads all others, in nats, and whether greedy decoding takes it, ``[K]`` each."""


class Predicted(NamedTuple):
    """Of one continuation under one chain.

    Attributes:
        logprob: sum of its tokens' log-probabilities, in nats.
        lead: of its tokens over all others, where it is least, in nats.
        greedy: whether greedy decoding writes it.
    """

    logprob: float
    lead: float
    greedy: bool


class Continuations:
    """Open samples, recorded as rows, and what chains predict of their continuations.

    Args:
        executor: runs the chains.
        shared_prompt: whether the continuations of a sample share one sequence behind its prompt; by default whenever
            the backbone allows it.
        truncate: cut prompts that are too long for the model at their beginning, instead of refusing them.
    """

    def __init__(self, executor: Executor, shared_prompt: bool | None = None, truncate: bool = False) -> None:
        self.executor = executor
        self.backbone = executor.backbone
        self.shared_prompt = self.backbone.capabilities.shares_prompts if shared_prompt is None else shared_prompt
        self.truncate = truncate
        self._open: dict[str, tuple[EncodedSample, tuple[int, ...]]] = {}
        self._prompts: dict[str, str] = {}

    def alone(self) -> "Continuations":
        """The same with nothing kept between calls."""
        return Continuations(Executor(self.backbone, cache_bytes=0), self.shared_prompt, self.truncate)

    def open(self, sample: Sample) -> None:
        """Record a sample's rows."""
        backbone = self.backbone
        encoded = encode(
            sample,
            backbone.encoder,
            self.shared_prompt,
            backbone.capabilities.shared_prompt_limit,
            backbone.max_tokens,
            self.truncate,
        )
        self._open[sample.key] = encoded, tuple(self.executor.open(row) for row in encoded.rows)
        self._prompts[sample.key] = sample.prompt

    def close(self, key: str) -> None:
        """Drop an open sample and all that is kept for it."""
        for handle in self._open.pop(key)[1]:
            self.executor.close(handle)
        del self._prompts[key]

    def rows(self, key: str) -> tuple[Row, ...]:
        """The rows of an open sample."""
        return self._open[key][0].rows

    def read_prompt(self, key: str, layers: Sequence[int]) -> Tensor | None:
        """See ``ModelJudge``."""
        encoded, handles = self._open[key]
        tokens = self.backbone.encoder.prompt(self._prompts[key])
        if list(encoded.rows[0].tokens[: len(tokens)]) != list(tokens):
            return None
        return self.executor.read(handles[:1], layers)[0][: len(tokens)]

    def predict(self, requests: Sequence[tuple[str, Chain]], leads: Leads | None = None) -> list[list[Predicted]]:
        """What each (key of an open sample, chain) makes of every continuation, in request order.

        Raises:
            UserError: if a log-probability is not finite.
        """
        if not requests:
            return []
        asked = [(handle, chain) for key, chain in requests for handle in self._open[key][1]]
        hidden = iter(self.executor.run(asked))
        states: list[Tensor] = []
        flat: list[tuple[list[int], list[int]]] = []
        offset = 0
        for key, _ in requests:
            encoded = self._open[key][0]
            row_offsets = []
            for _row in encoded.rows:
                states.append(next(hidden))
                row_offsets.append(offset)
                offset += states[-1].shape[0]
            flat += [
                ([row_offsets[row] + index for index, _ in targets], [token for _, token in targets])
                for row, targets in encoded.targets
            ]
        logprobs, margins, right = self._measure(
            torch.cat(states),
            torch.tensor([position for positions, _ in flat for position in positions]),
            torch.tensor([token for _, tokens in flat for token in tokens]),
            torch.tensor([place == len(tokens) - 1 for _, tokens in flat for place in range(len(tokens))]),
            leads,
        )
        sizes = [len(tokens) for _, tokens in flat]
        if not bool(logprobs.isfinite().all()):
            self._refuse(requests, sizes, logprobs)
        parts = zip(logprobs.split(sizes), margins.split(sizes), right.split(sizes), strict=True)
        found = (Predicted(float(sums.sum()), float(least.min()), bool(whole.all())) for sums, least, whole in parts)
        return [[next(found) for _ in self._open[key][0].targets] for key, _ in requests]

    def _refuse(self, requests: Sequence[tuple[str, Chain]], sizes: Sequence[int], logprobs: Tensor) -> None:
        """Name the question and the chain of a score that is no number: none may count as an answer.

        Raises:
            UserError: always.
        """
        owners = [request for request in requests for _ in self._open[request[0]][0].targets]
        finite = [bool(part.isfinite().all()) for part in logprobs.split(list(sizes))]
        key, chain = owners[finite.index(False)]
        raise UserError(
            f"question {key}: scores through chain {chain} are not finite in {self.backbone.dtype_name}; the weights "
            "are damaged or overflow: try dtype bfloat16 or float32"
        )

    @torch.inference_mode()
    def _measure(
        self, hidden: Tensor, positions: Tensor, tokens: Tensor, closing: Tensor, leads: Leads | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is predicted of ``tokens`` ``[K]`` at ``positions`` ``[K]`` of ``hidden`` ``[P, H]``: log-probabilities
        and, where asked for, leads and whether each is taken, ``[K]`` each."""
        order: list[Tensor] = []
        found: list[list[Tensor]] = []
        size = min(_POSITIONS_PER_HEAD_CALL, self.backbone.call_tokens)
        for start in range(0, hidden.shape[0], size):
            chosen = ((positions >= start) & (positions < start + size)).nonzero()[:, 0]
            if len(chosen):
                order.append(chosen)
                logits = self.backbone.logits(hidden[start : start + size])
                here = torch.stack([positions[chosen] - start, tokens[chosen]]).to(logits.device)
                logprobs = logits[here[0], here[1]].float() - normalizers(logits)[here[0]]
                measured = [logprobs.double()]
                if leads is not None:
                    measured += leads(logits, here[0], here[1], closing[chosen].to(logits.device))
                found.append([each.double() for each in measured])
        # One copy from the device for all.
        values = torch.cat([torch.stack(each) for each in found], dim=1).cpu()
        whole = torch.zeros(3, len(tokens), dtype=torch.float64)
        whole[: len(values), torch.cat(order)] = values
        return whole[0], whole[1], whole[2] > 0


def normalizers(logits: Tensor) -> Tensor:
    """Log-sum-exp ``[P]`` of each row of ``[P, V]``, in float32, the same bits whatever else there is.

    A sum of which there is only one torch shares out among its threads, which rounds otherwise: none is taken alone.
    """
    # Small slices on a CPU: whole float32 logits would not fit its caches.
    parts = logits.split(_ROWS_PER_NORMALIZER if logits.device.type == "cpu" else len(logits))
    return torch.cat([part.float().expand(max(2, len(part)), -1).logsumexp(-1)[: len(part)] for part in parts])


@dataclass(frozen=True)
class EncodedSample:
    """A sample as rows.

    Attributes:
        rows: one row with all options side by side, or one an option where the backbone cannot share prompts.
        targets: for each option the row it is in and its scored tokens as (index into ``row.wanted``, token).
    """

    rows: tuple[Row, ...]
    targets: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


def encode(
    sample: Sample,
    encoder: PromptEncoder,
    shared_prompt: bool,
    shared_prompt_limit: int = sys.maxsize,
    max_tokens: int = sys.maxsize,
    truncate: bool = False,
) -> EncodedSample:
    """Tokenise every context with its continuation, and lay the options out.

    Args:
        sample: the question.
        encoder: gives the token ids, and says where a context ends.
        shared_prompt: put the options side by side into one row behind their prompt, where it gets no longer than
            ``shared_prompt_limit`` tokens.
        shared_prompt_limit: most tokens of such a row.
        max_tokens: most tokens that the model reads of a context with its continuation.
        truncate: cut what is longer at its beginning, alike for all options, instead of refusing it.

    Raises:
        UserError: if a continuation has no tokens of its own, or it is too long with its context.
    """
    full: list[list[int]] = []
    starts: list[int] = []
    for context, continuation in zip(sample.contexts, sample.continuations, strict=True):
        tokens, start = encoder.pair(context, continuation)
        if start >= len(tokens):
            raise UserError(f"question {sample.key}: option {continuation!r} has no tokens to score")
        full.append(tokens)
        starts.append(start)
    longest = max(map(len, full)) - 1  # nothing is predicted behind the last token
    if longest > max_tokens:
        room = max_tokens - max(len(tokens) - start for tokens, start in zip(full, starts, strict=True))
        if not truncate or room < 1:
            raise UserError(too_long(sample.key, longest, max_tokens))
        full = [encoder.cut(tokens, longest - max_tokens) for tokens in full]
        starts = [start - (longest - max_tokens) for start in starts]
    if shared_prompt:
        shared = _shared_prefix(full, min(starts))
        shared_prompt = shared + sum(len(tokens) - 1 - shared for tokens in full) <= shared_prompt_limit
    if not shared_prompt:
        rows, targets = [], []
        for index, (tokens, start) in enumerate(zip(full, starts, strict=True)):
            rows.append(Row.plain(tokens[:-1], wanted=range(start - 1, len(tokens) - 1)))
            targets.append((index, tuple(enumerate(tokens[start:]))))
        return EncodedSample(tuple(rows), tuple(targets))
    options = [tokens[shared:-1] for tokens in full]
    offset = shared
    positions: list[list[int]] = []
    for tokens, start, option in zip(full, starts, options, strict=True):
        queries = range(start - 1, len(tokens) - 1)  # the position before each scored token predicts it
        positions.append([query if query < shared else offset + query - shared for query in queries])
        offset += len(option)
    wanted = sorted({position for option_positions in positions for position in option_positions})
    place = {position: index for index, position in enumerate(wanted)}
    targets_behind = tuple(
        (0, tuple((place[position], token) for position, token in zip(where, tokens[start:], strict=True)))
        for where, tokens, start in zip(positions, full, starts, strict=True)
    )
    return EncodedSample((Row.with_options(full[0][:shared], options, wanted),), targets_behind)


def too_long(key: str, tokens: int, max_tokens: int) -> str:
    """What is said of a question that the model cannot read."""
    return (
        f"question {key} has {tokens} tokens and the model reads {max_tokens}; shorten it, or label with "
        "--truncate left, which cuts the beginning of such prompts"
    )


def _shared_prefix(sequences: Sequence[Sequence[int]], limit: int) -> int:
    length = 0
    while length < limit and len({sequence[length] for sequence in sequences}) == 1:
        length += 1
    return length
