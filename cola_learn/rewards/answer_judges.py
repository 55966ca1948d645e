"""Judges of open questions: answers that greedy decoding writes, or would write, which takes one pass."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor, Usage
from cola_learn.backbone.generate import Generator, end_tokens
from cola_learn.backbone.rows import Row
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.rewards.continuations import Continuations, Predicted, too_long
from cola_learn.rewards.grading import Grader
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.prompts import Prompt
from cola_learn.rewards.scores import AnswerScores
from cola_learn.tasks.answers import ENDS_WORD
from cola_learn.tasks.questions import Sample


class AnswerWriter(ModelJudge):
    """Scores chains on open samples by letting them write.

    Args:
        backbone: what writes.
        prompt: how questions are put and how much is written.
        cache_bytes: for what chains share of a prompt; 0 keeps nothing, by default a share of the free memory.
        truncate: cut prompts that leave no room for the answer at their beginning, instead of refusing them.

    Attributes:
        grader: what reads the answers.
    """

    def __init__(
        self, backbone: Backbone, prompt: Prompt, cache_bytes: int | None = None, truncate: bool = False
    ) -> None:
        super().__init__(backbone)
        self.prompt = prompt
        self.truncate = truncate
        self.grader = Grader()
        self._generator = Generator(backbone, cache_bytes)
        self._open: dict[str, tuple[Sample, list[int]]] = {}

    @property
    def ungraded(self) -> int:
        return self.grader.failures.total()

    def alone(self) -> "AnswerWriter":
        return AnswerWriter(self.backbone, self.prompt, 0, self.truncate)

    def open(self, sample: Sample) -> None:
        backbone = self.backbone
        tokens = backbone.encoder.prompt(self.prompt.text(sample.prompt, backbone.tokenizer).rstrip())
        room = backbone.max_tokens - self.prompt.max_new_tokens
        if len(tokens) > room:
            if not self.truncate or room < 1:
                raise UserError(too_long(sample.key, len(tokens) + self.prompt.max_new_tokens, backbone.max_tokens))
            tokens = backbone.encoder.cut(tokens, len(tokens) - room)
        self._open[sample.key] = sample, tokens

    def close(self, key: str) -> None:
        del self._open[key]

    def tokens(self, key: str) -> list[int]:
        """The prompt of an open sample."""
        return self._open[key][1]

    def write(self, requests: Sequence[tuple[str, Chain]]) -> list[str]:
        """What each (key of an open sample, chain) writes behind the prompt, by greedy decoding."""
        tokenizer = self.backbone.tokenizer

        def decode(tokens: Sequence[int]) -> str:
            return str(tokenizer.decode(tokens, skip_special_tokens=True))

        written: list[str] = []
        for start in range(0, len(requests), _ROWS):
            some = requests[start : start + _ROWS]
            rows = self._generator.generate(
                [self._open[key][1] for key, _ in some],
                [chain for _, chain in some],
                self.prompt.max_new_tokens,
                lambda new: self.prompt.finished(decode(new)),
            )
            written += map(decode, rows)
        return written

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[AnswerScores]:
        scores: list[AnswerScores] = []
        for (key, _), text in zip(requests, self.write(requests), strict=True):
            answer = self.prompt.answer_in(text)
            right = tuple(self.grader.grade(answer, gold).right for gold in self._open[key][0].continuations)
            scores.append(AnswerScores(right, (0.0,) * len(right), tuple(0.0 if each else -700.0 for each in right)))
        return scores


# How tokens of bytes, and SentencePiece's, begin with white space.
_SPACE_PIECES = "[\u0120\u010a\u0109\u010d\u2581]|<0x(09|0A|0D|20)>"


@dataclass(frozen=True)
class _Spelled:
    """An open sample: how many answers it has, and which of them each continuation spells."""

    answers: int
    owners: tuple[int, ...]


class AnswerVerifier(ModelJudge):
    """Verifies the answers of open samples through an executor, one pass a chain.

    An answer is right when, with the answer given, the arg-max at each of its positions is its own next token, for any
    of its spellings; at the last position, any token that begins like the closing one will do.

    Args:
        executor: runs the chains.
        prompt: how open questions are put.
        shared_prompt: override whether spellings share a sequence; by default whenever the backbone allows it.
        truncate: cut prompts that are too long for the model at their beginning, instead of refusing them.
    """

    provisional = True

    def __init__(
        self, executor: Executor, prompt: Prompt, shared_prompt: bool | None = None, truncate: bool = False
    ) -> None:
        super().__init__(executor.backbone)
        self.executor = executor
        self.prompt = prompt
        self._continuations = Continuations(executor, shared_prompt, truncate)
        self._open: dict[str, _Spelled] = {}
        self._closers: dict[int, Tensor] = {}
        self._pieces: list[str] = []

    @property
    def usage(self) -> Usage:
        return self.executor.usage

    def alone(self) -> "AnswerVerifier":
        own = self._continuations
        return AnswerVerifier(Executor(self.backbone, 0), self.prompt, own.shared_prompt, own.truncate)

    def reference(self) -> "ConfirmedVerifier":
        """One that keeps nothing and has every chain that it finds right write its answer, too."""
        writer = AnswerWriter(self.backbone, self.prompt, cache_bytes=0, truncate=self._continuations.truncate)
        return ConfirmedVerifier(self.alone(), writer)

    def open(self, sample: Sample) -> None:
        tokenizer = self.backbone.tokenizer
        owner_of: dict[str, int] = {}
        for owner, answer in enumerate(sample.continuations):
            for text in self.prompt.continuations(answer, str(tokenizer.eos_token)):
                owner_of.setdefault(text, owner)
        contexts = (self.prompt.text(sample.prompt, tokenizer),) * len(owner_of)
        self._continuations.open(replace(sample, contexts=contexts, continuations=tuple(owner_of)))
        self._open[sample.key] = _Spelled(len(sample.continuations), tuple(owner_of.values()))

    def close(self, key: str) -> None:
        self._continuations.close(key)
        del self._open[key]

    def rows(self, key: str) -> tuple[Row, ...]:
        """The rows of an open sample."""
        return self._continuations.rows(key)

    def read_prompt(self, key: str, layers: Sequence[int]) -> Tensor | None:
        return self._continuations.read_prompt(key, layers)

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[AnswerScores]:
        predicted = self._continuations.predict(requests, self._leads)
        return [self._scores(self._open[key], own) for (key, _), own in zip(requests, predicted, strict=True)]

    @staticmethod
    def _scores(spelled: _Spelled, predicted: Sequence[Predicted]) -> AnswerScores:
        answers: list[list[Predicted]] = [[] for _ in range(spelled.answers)]
        for owner, one in zip(spelled.owners, predicted, strict=True):
            answers[owner].append(one)
        return AnswerScores(
            tuple(any(one.greedy for one in own) for own in answers),
            tuple(max((one.greedy, one.lead) for one in own)[1] for own in answers),
            tuple(math.log(math.fsum(math.exp(one.logprob) for one in own) or 1e-300) for own in answers),
        )

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


class ConfirmedVerifier(ModelJudge):
    """Verifies, and has every chain that it finds right write its answer: right is what is right both ways.

    Args:
        verifier: judges in one pass.
        writer: is asked about what is right then.
    """

    def __init__(self, verifier: AnswerVerifier, writer: AnswerWriter) -> None:
        super().__init__(verifier.backbone)
        self._verifier = verifier
        self._writer = writer

    @property
    def usage(self) -> Usage:
        return self._verifier.usage

    @property
    def ungraded(self) -> int:
        return self._writer.ungraded

    def alone(self) -> "ConfirmedVerifier":
        return ConfirmedVerifier(self._verifier.alone(), self._writer.alone())

    def open(self, sample: Sample) -> None:
        self._verifier.open(sample)
        self._writer.open(sample)

    def close(self, key: str) -> None:
        self._verifier.close(key)
        self._writer.close(key)

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[AnswerScores]:
        scores = self._verifier.score(requests)
        places = [place for place, score in enumerate(scores) if score.choice >= 0]
        written = self._writer.score([requests[place] for place in places])
        for place, confirmed in zip(places, written, strict=True):
            both = tuple(one and other for one, other in zip(scores[place].right, confirmed.right, strict=True))
            scores[place] = replace(scores[place], right=both)
        return scores


_ROWS = 64  # written together
