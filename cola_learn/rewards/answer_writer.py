"""Reward of open questions by generation: greedy decoding, and a grader that reads the answer."""

from collections.abc import Sequence

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.generate import Generator
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.rewards.encoding import too_long
from cola_learn.rewards.grading import Grader
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.prompts import Prompt
from cola_learn.rewards.scores import AnswerScores
from cola_learn.tasks.questions import Sample

_ROWS = 64  # written together


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
