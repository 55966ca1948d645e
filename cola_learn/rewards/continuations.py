"""Log-probabilities of given continuations through chains, in one teacher-forced pass."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cola_learn.backbone.executor import Executor
from cola_learn.backbone.rows import Row
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.rewards.encoding import EncodedSample, encode
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
