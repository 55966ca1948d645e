"""Scoring: how chains are judged, a value shared by all stages and commands."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cola_learn.backbone.dtypes import Bos
from cola_learn.errors import UserError
from cola_learn.rewards.prompts import Prompt
from cola_learn.tasks.questions import KINDS, Metric, Question, Template, Truncate
from cola_learn.tasks.registry import BENCHMARKS


@dataclass(frozen=True)
class Scoring:
    """Scoring.

    Attributes:
        template: cloze scores the text of each option; letter lists the options in the prompt and scores their letters.
        metric: score of an option: log-likelihood (acc), per character (acc_norm), or against its log-likelihood after
            "Answer:" alone, through the same chain (pmi). auto is what OLMES (arXiv 2406.08446) recommends for the
            benchmark, and acc_norm for others.
        reward: choices for multiple choice; for open questions verify (one teacher-forced pass tells whether greedy
            decoding would give the answer; decodes only to confirm) or generate (decodes with every chain); for
            responses likelihood, fidelity (to the plain model) or acceptance (tokens predicted alike). auto takes the
            first that fits. Or the dotted path of a Reward of your own.
        prompt: prompt of open questions; see it with --show_prompt.
        bos: beginning-of-text token: auto as the tokenizer does, yes always, no never.
        truncate: prompts longer than the context window: left truncates them on the left, no refuses them.
    """

    template: Template = "cloze"
    metric: Literal["auto"] | Metric = "auto"
    reward: str = "auto"
    prompt: Prompt = field(default_factory=Prompt)
    bos: Bos = "auto"
    truncate: Truncate = "no"

    def of(self, questions: Sequence[Question]) -> "Scoring":
        """The same with the reward and the metric that these questions take in the place of auto.

        Raises:
            UserError: if the reward named is not for such questions.
        """
        from cola_learn.rewards.reward import REWARDS, use_reward  # they run models, and help is to be quick

        question = questions[0]
        fitting = [name for name, reward in REWARDS.items() if reward.fits(question)]
        name = fitting[0] if self.reward == "auto" else self.reward
        if not use_reward(name).fits(question):
            raise UserError(
                f"--reward {name} is not for {KINDS[question.kind]} such as those of {question.task}; "
                f"{' or '.join(fitting)}"
            )
        metric = self.metric
        if metric == "auto":
            task = BENCHMARKS.get(questions[0].task)
            metric = "acc" if self.template == "letter" else task.metric if task else "acc_norm"
        return replace(self, reward=name, metric=metric)
