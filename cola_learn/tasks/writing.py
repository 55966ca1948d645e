"""Rewards for open questions by what chains really write: greedy decoding, and a grader that reads the answer."""

from collections.abc import Sequence
from dataclasses import replace

from cola_learn.backbone import Backbone, Decoding, Executor, Generator
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.tasks.encoding import too_long
from cola_learn.tasks.grading import Grader
from cola_learn.tasks.prompts import Prompt
from cola_learn.tasks.questions import Sample
from cola_learn.tasks.scores import AnswerScores, Scores
from cola_learn.tasks.scoring import Scorer

_ROWS = 64  # written together


class Writer:
    """Scores chains on open questions by letting them write; has the methods of a :class:`Scorer`.

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
        self.backbone = backbone
        self.prompt = prompt
        self.truncate = truncate
        self.grader = Grader()
        self.executor = Executor(backbone, 0)  # runs nothing; its counters stay at zero
        self._generator = Generator(backbone, cache_bytes)
        self._open: dict[str, tuple[Sample, list[int]]] = {}

    @property
    def num_layers(self) -> int:
        """N of the backbone."""
        return self.backbone.num_layers

    def alone(self) -> "Writer":
        """One that scores alike and keeps nothing."""
        return Writer(self.backbone, self.prompt, 0, self.truncate)

    def open(self, sample: Sample) -> None:
        """Make a sample ready.

        Raises:
            UserError: if it is too long for the model.
        """
        backbone = self.backbone
        tokens = backbone.encoder.prompt(self.prompt.text(sample.prompt, backbone.tokenizer).rstrip())
        room = backbone.max_tokens - self.prompt.max_new_tokens
        if len(tokens) > room:
            if not self.truncate or room < 1:
                raise UserError(too_long(sample.key, len(tokens) + self.prompt.max_new_tokens, backbone.max_tokens))
            tokens = backbone.encoder.cut(tokens, len(tokens) - room)
        self._open[sample.key] = sample, tokens

    def close(self, key: str) -> None:
        """Forget it again."""
        del self._open[key]

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
                Decoding(max_new_tokens=self.prompt.max_new_tokens),
                ended=lambda new: self.prompt.finished(decode(new)),
            )
            written += map(decode, rows)
        return written

    def score(self, requests: Sequence[tuple[str, Chain]]) -> Sequence[Scores]:
        """Scores of each (key of an open sample, chain), in request order."""
        scores: list[Scores] = []
        for (key, _), text in zip(requests, self.write(requests), strict=True):
            answer = self.prompt.answer_in(text)
            right = tuple(self.grader.grade(answer, gold).right for gold in self._open[key][0].continuations)
            scores.append(AnswerScores(right, (0.0,) * len(right), tuple(0.0 if each else -700.0 for each in right)))
        return scores


class Confirmer:
    """Scores as a :class:`Scorer` does, and lets every chain that it finds right write its answer: right is what is
    right both ways.

    Args:
        scorer: judges in one pass.
        writer: is asked about what is right then.
    """

    def __init__(self, scorer: Scorer, writer: Writer) -> None:
        self._scorer = scorer
        self.writer = writer
        self.backbone = scorer.backbone

    def open(self, sample: Sample) -> None:
        """Make a sample ready."""
        self._scorer.open(sample)
        self.writer.open(sample)

    def close(self, key: str) -> None:
        """Forget it again."""
        self._scorer.close(key)
        self.writer.close(key)

    def score(self, requests: Sequence[tuple[str, Chain]]) -> Sequence[Scores]:
        """Scores of each (key of an open sample, chain), in request order."""
        scores = list(self._scorer.score(requests))
        places = [place for place, score in enumerate(scores) if score.choice >= 0]
        written = self.writer.score([requests[place] for place in places])
        for place, confirmed in zip(places, written, strict=True):
            judged = scores[place]
            assert isinstance(judged, AnswerScores)
            assert isinstance(confirmed, AnswerScores)
            both = tuple(one and other for one, other in zip(judged.right, confirmed.right, strict=True))
            scores[place] = replace(judged, right=both)
        return scores
