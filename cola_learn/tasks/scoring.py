"""How chains are judged: a value that every stage and every command shares."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cola_learn.backbone.options import Bos
from cola_learn.errors import UserError
from cola_learn.tasks.prompts import Prompt
from cola_learn.tasks.questions import Question, Template, Truncate

Metric = Literal["acc", "acc_norm"]
Reward = Literal["choices", "verify", "generate"]


@dataclass(frozen=True)
class Scoring:
    """How chains are scored.

    Attributes:
        template: score the text of every option (cloze) or the letters of listed options (letter).
        metric: sum of log-probabilities (acc) or that per character (acc_norm).
        reward: choices scores the options of multiple-choice questions; of open questions, verify asks in one pass
            whether greedy decoding would write the answer, and confirms what it finds good by generating; generate
            lets every chain write. auto takes choices or verify.
        prompt: how open questions are put; --show-prompt prints one and ends.
        bos: special tokens before every prompt: auto as the model's tokenizer writes them, yes its beginning-of-text
            token in any case, no none.
        truncate: left cuts the beginning of prompts that are longer than the model reads; no refuses them.
    """

    template: Template = "cloze"
    metric: Metric = "acc"
    reward: Literal["auto"] | Reward = "auto"
    prompt: Prompt = field(default_factory=Prompt)
    bos: Bos = "auto"
    truncate: Truncate = "no"

    def of(self, questions: Sequence[Question]) -> "Scoring":
        """The same with the reward that these questions take in the place of auto.

        Raises:
            UserError: if the reward named is not for such questions.
        """
        fitting: tuple[Reward, ...] = ("verify", "generate") if questions[0].open else ("choices",)
        reward: Reward | Literal["auto"] = fitting[0] if self.reward == "auto" else self.reward
        if reward not in fitting:
            kind = "open questions" if questions[0].open else "questions with choices"
            raise UserError(
                f"--reward {reward} is not for {kind} such as those of {questions[0].task}; {' or '.join(fitting)}"
            )
        return replace(self, reward=reward)
