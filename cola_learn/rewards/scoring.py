"""Scoring: how chains are judged, a value shared by all stages and commands."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cola_learn.backbone.options import Bos
from cola_learn.errors import UserError
from cola_learn.rewards.prompts import Prompt
from cola_learn.tasks.questions import Metric, Question, Template, Truncate
from cola_learn.tasks.registry import BENCHMARKS

Reward = Literal["choices", "verify", "generate"]


@dataclass(frozen=True)
class Scoring:
    """Scoring.

    Attributes:
        template: cloze scores the text of each option; letter lists the options in the prompt and scores their letters.
        metric: score of an option: log-likelihood (acc), per character (acc_norm), or against its log-likelihood after
            "Answer:" alone, through the same chain (pmi). auto is what OLMES (arXiv 2406.08446) recommends for the
            benchmark, and acc_norm for others.
        reward: choices for multiple choice. For open questions, generate decodes with every chain; verify checks in one
            teacher-forced pass whether greedy decoding would give the answer, and decodes only to confirm. auto takes
            choices or verify.
        prompt: prompt of open questions; see it with --show_prompt.
        bos: beginning-of-text token: auto as the tokenizer does, yes always, no never.
        truncate: prompts longer than the context window: left truncates them on the left, no refuses them.
    """

    template: Template = "cloze"
    metric: Literal["auto"] | Metric = "auto"
    reward: Literal["auto"] | Reward = "auto"
    prompt: Prompt = field(default_factory=Prompt)
    bos: Bos = "auto"
    truncate: Truncate = "no"

    def of(self, questions: Sequence[Question]) -> "Scoring":
        """The same with the reward and the metric that these questions take in the place of auto.

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
        metric = self.metric
        if metric == "auto":
            task = BENCHMARKS.get(questions[0].task)
            metric = "acc" if self.template == "letter" else task.metric if task else "acc_norm"
        return replace(self, reward=reward, metric=metric)
