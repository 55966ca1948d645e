"""Scoring a chain on a question in one pass: the log-probability of every option's text or, for an open question,
whether greedy decoding would write the answer.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from cola_learn.backbone import Backbone, Executor, Row
from cola_learn.backbone.generate import end_tokens
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.tasks.answers import ENDS_WORD
from cola_learn.tasks.encoding import EncodedSample, encode
from cola_learn.tasks.prompts import Prompt
from cola_learn.tasks.questions import Sample
from cola_learn.tasks.scores import AnswerScores, OptionScores, Scores

Metric = Literal["acc", "acc_norm"]
_POSITIONS_PER_HEAD_CALL = 256
_ROWS_PER_NORMALIZER = 16
# How tokens of bytes, and SentencePiece's, begin with white space.
_SPACE_PIECES = "[\u0120\u010a\u0109\u010d\u2581]|<0x(09|0A|0D|20)>"


@dataclass(frozen=True)
class _Opened:
    """A sample that is open: ``owners`` says of each continuation which answer it spells."""

    sample: Sample
    encoded: EncodedSample
    handles: tuple[int, ...]
    owners: tuple[int, ...]


class Scorer:
    """Scores chains on open samples through an executor.

    An open question's answer is right when, with the answer given, the arg-max at each of its positions is its own
    next token, for any of its spellings; at the last position, any token that begins like the closing one will do.

    Args:
        executor: runs the chains.
        metric: ``acc`` or ``acc_norm``.
        packed: override whether options share a sequence; by default whenever the backbone allows it.
        prompt: how open questions are put.
        truncate: cut prompts that are too long for the model at their beginning, instead of refusing them.
    """

    def __init__(
        self,
        executor: Executor,
        metric: Metric = "acc",
        packed: bool | None = None,
        prompt: Prompt | None = None,
        truncate: bool = False,
    ) -> None:
        self.executor = executor
        self.backbone: Backbone = executor.backbone
        self.metric = metric
        self.packed = self.backbone.packable if packed is None else packed
        self.prompt = prompt or Prompt()
        self.truncate = truncate
        self._open: dict[str, _Opened] = {}
        self._closers: dict[int, Tensor] = {}
        self._pieces: list[str] = []

    @property
    def num_layers(self) -> int:
        """N of the backbone."""
        return self.backbone.num_layers

    def alone(self) -> "Scorer":
        """One that scores alike and keeps nothing."""
        return Scorer(Executor(self.backbone, cache_bytes=0), self.metric, self.packed, self.prompt, self.truncate)

    def open(self, sample: Sample) -> None:
        """Record a sample's rows; it stays open for :meth:`score` until :meth:`close`."""
        owners = tuple(range(len(sample.continuations)))
        written = sample
        if sample.open:
            written, owners = self._put(sample)
        backbone = self.backbone
        encoded = encode(
            written, backbone.encoder, self.packed, backbone.packed_limit, backbone.max_tokens, self.truncate
        )
        handles = tuple(self.executor.open(row) for row in encoded.rows)
        self._open[sample.key] = _Opened(sample, encoded, handles, owners)

    def close(self, key: str) -> None:
        """Drop an open sample and all that is kept for it."""
        for handle in self._open.pop(key).handles:
            self.executor.close(handle)

    def rows(self, key: str) -> tuple[Row, ...]:
        """The rows of an open sample."""
        return self._open[key].encoded.rows

    def score(self, requests: Sequence[tuple[str, Chain]]) -> Sequence[Scores]:
        """Scores of each (key of an open sample, chain), in request order."""
        if not requests:
            return []
        asked = [(handle, chain) for key, chain in requests for handle in self._open[key].handles]
        hidden = iter(self.executor.run(asked))
        states: list[Tensor] = []
        flat: list[tuple[list[int], list[int]]] = []
        offset = 0
        for key, _ in requests:
            encoded = self._open[key].encoded
            row_offsets = []
            for _row in encoded.rows:
                states.append(next(hidden))
                row_offsets.append(offset)
                offset += states[-1].shape[0]
            flat += [
                ([row_offsets[row] + index for index, _ in targets], [token for _, token in targets])
                for row, targets in encoded.targets
            ]
        logprobs, leads, right = self._measure(
            torch.cat(states),
            torch.tensor([position for positions, _ in flat for position in positions]),
            torch.tensor([token for _, tokens in flat for token in tokens]),
            torch.tensor([place == len(tokens) - 1 for _, tokens in flat for place in range(len(tokens))])
            if any(self._open[key].sample.open for key, _ in requests)
            else None,
        )
        if not bool(logprobs.isfinite().all()):
            self._refuse(requests, [len(tokens) for _, tokens in flat], logprobs)
        sizes = [len(tokens) for _, tokens in flat]
        sums = iter([float(part.sum()) for part in logprobs.split(sizes)])
        least = iter([float(part.min()) for part in leads.split(sizes)])
        whole = iter([bool(part.all()) for part in right.split(sizes)])
        return [self._scores_of(self._open[key], sums, least, whole) for key, _ in requests]

    def _refuse(self, requests: Sequence[tuple[str, Chain]], sizes: Sequence[int], logprobs: Tensor) -> None:
        """Name the question and the chain of a score that is no number: none may count as an answer.

        Raises:
            UserError: always.
        """
        owners = [request for request in requests for _ in self._open[request[0]].encoded.targets]
        finite = [bool(part.isfinite().all()) for part in logprobs.split(list(sizes))]
        key, chain = owners[finite.index(False)]
        raise UserError(
            f"question {key}: scores through chain {chain} are not finite in {self.backbone.dtype_name}; the weights "
            "are damaged or overflow: try --dtype bfloat16 or float32"
        )

    def _put(self, sample: Sample) -> tuple[Sample, tuple[int, ...]]:
        """An open question as the prompt puts it, with every spelling of its answers, and whose each is."""
        tokenizer = self.backbone.tokenizer
        context = self.prompt.text(sample.prompt, tokenizer)
        owner_of: dict[str, int] = {}
        for owner, answer in enumerate(sample.continuations):
            for text in self.prompt.continuations(answer, str(tokenizer.eos_token)):
                owner_of.setdefault(text, owner)
        contexts = (context,) * len(owner_of)
        return replace(sample, contexts=contexts, continuations=tuple(owner_of)), tuple(owner_of.values())

    def _scores_of(
        self, opened: _Opened, sums: Iterator[float], leads: Iterator[float], right: Iterator[bool]
    ) -> Scores:
        """The scores of one request, from what was measured of its continuations."""
        if opened.sample.open:
            found = [(owner, next(sums), next(leads), next(right)) for owner in opened.owners]
            answers = [
                [(logprob, lead, whole) for owner, logprob, lead, whole in found if owner == index]
                for index in range(len(opened.sample.continuations))
            ]
            return AnswerScores(
                tuple(any(whole for _, _, whole in spelt) for spelt in answers),
                tuple(max((whole, lead) for _, lead, whole in spelt)[1] for spelt in answers),
                tuple(math.log(math.fsum(math.exp(logprob) for logprob, _, _ in spelt) or 1e-300) for spelt in answers),
            )
        values = [next(sums) for _ in opened.sample.lengths]
        if self.metric == "acc_norm":
            values = [value / length for value, length in zip(values, opened.sample.lengths, strict=True)]
        return OptionScores(tuple(values))

    @torch.inference_mode()
    def _measure(
        self, hidden: Tensor, positions: Tensor, tokens: Tensor, closing: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is predicted of ``tokens`` ``[K]`` at ``positions`` ``[K]`` of ``hidden`` ``[P, H]``.

        Returns:
            Log-probabilities; and, where ``closing`` ``[K]`` says which tokens end an answer, the leads over all other
            tokens and whether each is the arg-max, ``[K]`` each.
        """
        logprobs = torch.empty(len(tokens), dtype=torch.float64)
        leads = torch.zeros(len(tokens), dtype=torch.float64)
        right = torch.zeros(len(tokens), dtype=torch.bool)
        size = min(_POSITIONS_PER_HEAD_CALL, self.backbone.call_tokens)
        for start in range(0, hidden.shape[0], size):
            stop = start + size
            logits = self.backbone.finish(hidden[start:stop])
            normalizer = normalizers(logits)
            chosen = (positions >= start) & (positions < stop)
            rows = (positions[chosen] - start).to(logits.device)
            here = tokens[chosen].to(logits.device)
            logprobs[chosen] = (logits[rows, here].float() - normalizer[rows]).double().cpu()
            if closing is not None:
                lead, best = self._leads(logits, rows, here, closing[chosen].to(logits.device))
                leads[chosen], right[chosen] = lead.double().cpu(), best.cpu()
        return logprobs, leads, right

    def _leads(self, logits: Tensor, rows: Tensor, tokens: Tensor, closing: Tensor) -> tuple[Tensor, Tensor]:
        """Leads ``[K]`` of ``tokens`` in ``logits`` ``[P, V]`` at ``rows``, and whether each is what greedy decoding
        takes.
        """
        first = logits.argmax(-1)
        best = logits.gather(-1, first[:, None])[:, 0].float()
        second = logits.scatter(-1, first[:, None], -math.inf).amax(-1).float()
        right = first[rows] == tokens
        leads = logits[rows, tokens].float() - torch.where(right, second[rows], best[rows])
        for token in set(tokens[closing].tolist()):
            same = self._closing_like(int(token), logits.shape[-1]).to(logits.device)
            where = closing & (tokens == token)
            at = logits[rows[where]]
            right[where] = same[first[rows[where]]]
            leads[where] = (at[:, same].amax(-1) - at.masked_fill(same, -math.inf).amax(-1)).float()
        return leads, right

    def _closing_like(self, token: int, vocabulary: int) -> Tensor:
        """Which tokens ``[V]`` close an answer as this one does: those that begin with its text. The end of the text
        stands for all that ends a word where the prompt opens a box; where it does not, it closes every answer.
        """
        if token not in self._closers:
            tokenizer = self.backbone.tokenizer
            if not self._pieces:
                self._pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
            start = re.escape(self._pieces[token])
            word = self.prompt.opens_box and token == tokenizer.eos_token_id
            closing = re.compile(f"{start}|[{ENDS_WORD}]|{_SPACE_PIECES}" if word else start)
            found = torch.zeros(vocabulary, dtype=torch.bool)
            found[[place for place, piece in enumerate(self._pieces) if piece and closing.match(piece)]] = True
            if word or not self.prompt.opens_box:  # an open brace is not closed by the end of the text
                found[sorted(end_tokens(self.backbone))] = True
            self._closers[token] = found
        return self._closers[token]


def normalizers(logits: Tensor) -> Tensor:
    """Log-sum-exp ``[P]`` of each row of ``[P, V]``, in float32, the same bits whatever else there is.

    A sum of which there is only one torch shares out among its threads, which rounds otherwise: none is taken alone.
    """
    # Small slices: whole float32 logits would not fit the caches of a CPU.
    parts = logits.split(_ROWS_PER_NORMALIZER)
    return torch.cat([part.float().expand(max(2, len(part)), -1).logsumexp(-1)[: len(part)] for part in parts])
