"""A question as token rows: every context with its continuation, options side by side where the backbone allows it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cola_learn.backbone.rows import Row
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.errors import UserError
from cola_learn.tasks.questions import Sample


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
