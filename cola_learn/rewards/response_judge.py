"""How likely a chain finds given responses, and how far it stays with the base chain, in one teacher-forced pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cola_learn.backbone.executor import Executor, Usage
from cola_learn.backbone.rows import Row
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.rewards.continuations import normalizers, too_long
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.scores import Measure, ResponseScores
from cola_learn.tasks.questions import Sample

MOST_TOKENS = 128
"""Of a response: what is longer is cut."""
_CHUNK = 16  # tokens
_ROWS = 16  # positions whose distributions are compared at once


class _Base(NamedTuple):
    """What the base chain makes of a response of T tokens.

    Attributes:
        logprob: mean of the tokens, in nats.
        chosen: its next tokens, ``[T]``.
        probabilities: of all V tokens, in the dtype of the logits, ``[T, V]``.
        sums: of these, ``[T]``.
        expected: its log-probability under itself, in nats, ``[T]``.
    """

    logprob: float
    chosen: Tensor
    probabilities: Tensor
    sums: Tensor
    expected: Tensor


@dataclass
class _Open:
    handle: int
    targets: Tensor
    base: _Base | None = None


class ResponseJudge(ModelJudge):
    """Measures given responses through an executor, one pass a chain.

    Args:
        executor: runs the chains.
        measure: which measure is the reward.
        truncate: cut prompts that are too long for the model at their beginning, instead of refusing them.
    """

    def __init__(self, executor: Executor, measure: Measure = "likelihood", truncate: bool = False) -> None:
        super().__init__(executor.backbone)
        self.executor, self.measure, self.truncate = executor, measure, truncate
        self._open: dict[str, _Open] = {}
        self._prompts: dict[str, Sequence[int]] = {}

    @property
    def usage(self) -> Usage:
        return self.executor.usage

    def alone(self) -> "ResponseJudge":
        return ResponseJudge(Executor(self.backbone, 0), self.measure, self.truncate)

    def open(self, sample: Sample) -> None:
        encoder, most = self.backbone.encoder, self.backbone.max_tokens
        tokens, start = encoder.pair(sample.contexts[0], sample.continuations[0])
        prompt = encoder.prompt(sample.prompt)
        if list(tokens[: len(prompt)]) == list(prompt):  # white space at its end is the prompt's
            start = len(prompt)
        if start >= len(tokens):
            raise UserError(f"question {sample.key}: its response has no tokens to score")
        tokens = tokens[: start + MOST_TOKENS]
        if (over := len(tokens) - 1 - most) > 0:
            if not self.truncate or start - over < 1:
                raise UserError(too_long(sample.key, len(tokens) - 1, most))
            tokens, start = encoder.cut(tokens, over), start - over
        row = Row.plain(tokens[:-1], wanted=range(start - 1, len(tokens) - 1))
        self._open[sample.key] = _Open(self.executor.open(row), torch.tensor(tokens[start:]))
        self._prompts[sample.key] = prompt

    def close(self, key: str) -> None:
        self.executor.close(self._open.pop(key).handle)
        del self._prompts[key]

    def read_prompt(self, key: str, layers: Sequence[int]) -> Tensor | None:
        handle, prompt = self._open[key].handle, self._prompts[key]
        if list(self.executor.tokens(handle)[: len(prompt)]) != list(prompt):
            return None
        return self.executor.read([handle], layers)[0][: len(prompt)]

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[ResponseScores]:
        base = Chain.base(self.num_layers)
        unknown = dict.fromkeys(key for key, _ in requests if self._open[key].base is None)
        asked = [*((key, base) for key in unknown), *requests]
        hidden = self.executor.run([(self._open[key].handle, chain) for key, chain in asked])
        for key, state in zip(unknown, hidden, strict=False):
            self._open[key].base = _base(self._logits(state), self._open[key].targets)
        states = hidden[len(unknown) :]
        return [self._scores(key, chain, state) for (key, chain), state in zip(requests, states, strict=True)]

    def run(self, key: str, chain: Chain) -> None:
        self._logits(self.executor.run([(self._open[key].handle, chain)])[0])

    def _logits(self, states: Tensor) -> Tensor:
        return torch.cat([self.backbone.logits(some) for some in states.split(self.backbone.call_tokens)])

    @torch.inference_mode()
    def _scores(self, key: str, chain: Chain, states: Tensor) -> ResponseScores:
        opened = self._open[key]
        base, targets = opened.base, opened.targets
        assert base
        logits = self._logits(states)
        totals = normalizers(logits)
        logprobs = (_taken(logits, targets) - totals).double().cpu()
        if not bool(logprobs.isfinite().all()):
            raise UserError(
                f"question {key}: scores through chain {chain} are not finite in {self.backbone.dtype_name}; the "
                "weights are damaged or overflow: try dtype bfloat16 or float32"
            )
        under = base.sums * totals - _products(base.probabilities, logits)  # what base expects of this chain, negated
        return ResponseScores(
            float(logprobs.mean()),
            _halves(logprobs),
            max(0.0, float((base.expected + under).double().mean())),
            float((_taken(logits, base.chosen) >= logits.amax(-1)).double().mean()),  # argmax takes ten times as long
            self.measure,
            base.logprob,
        )


@torch.inference_mode()
def _base(logits: Tensor, targets: Tensor) -> _Base:
    totals = normalizers(logits)
    parts = zip(logits.split(_ROWS), totals.split(_ROWS), strict=True)
    probabilities = torch.cat([(part.float() - total[:, None]).exp().to(logits.dtype) for part, total in parts])
    sums = torch.cat([part.float().sum(-1) for part in probabilities.split(_ROWS)])
    logprob = float((_taken(logits, targets) - totals).double().mean())
    return _Base(logprob, logits.argmax(-1), probabilities, sums, _products(probabilities, logits) - sums * totals)


def _taken(logits: Tensor, targets: Tensor) -> Tensor:
    """The logits of the targets, ``[T]``, in float32."""
    return logits.gather(-1, targets.to(logits.device)[:, None])[:, 0].float()


def _products(probabilities: Tensor, logits: Tensor) -> Tensor:
    """Row by row the scalar product in float32, ``[T]``."""
    pairs = zip(probabilities.split(_ROWS), logits.split(_ROWS), strict=True)
    return torch.cat([(one.float() * other.float()).sum(-1) for one, other in pairs])


def _halves(logprobs: Tensor) -> tuple[float, float]:
    """Means over every other chunk of tokens ``[T]``, and over the chunks between."""
    size = min(_CHUNK, -(-len(logprobs) // 2))
    even = torch.arange(len(logprobs)) // size % 2 == 0
    first = float(logprobs[even].mean())
    return first, float(logprobs[~even].mean()) if len(logprobs) > size else first
