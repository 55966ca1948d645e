"""Rewards as values: what makes a chain good for a question, and what runs chains to find out."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.command import by_name
from cola_learn.errors import UserError
from cola_learn.rewards.answer_judges import AnswerVerifier, AnswerWriter
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.rewards.prompts import Prompt
from cola_learn.rewards.response_judge import MOST_TOKENS, ResponseJudge
from cola_learn.rewards.scores import Measure, Scores
from cola_learn.tasks.questions import Metric, Question, Template, as_sample

GOOD_RESPONSE = 0.98
"""Of the base chain's bits per byte over a good chain's: two hundredths are lost."""


class Asked(NamedTuple):
    """A question as chains are judged on it, for people.

    Attributes:
        text: what the model reads.
        behind: texts that are scored behind it.
        gold: which of them is the right one; -1 where all are.
        title: what is done with them.
        writes: tokens that are written behind it.
    """

    text: str
    behind: Sequence[str]
    gold: int
    title: str
    writes: int = 0


def wrong_option(question: Question, base: Scores, seed: int) -> int | None:
    """The answer that the luck control searches for in the place of the gold one, drawn by seed and question: neither
    gold nor what the base chain answers, for then there would be nothing to find. None if none is left."""
    gold = question.choices[question.gold].strip()
    left = [
        index
        for index, choice in enumerate(question.choices)
        if index not in (question.gold, base.choice) and choice.strip() != gold
    ]
    return random.Random(f"{seed}/luck/{question.key}").choice(left) if left else None


@dataclass(frozen=True)
class Reward:
    """What makes a chain good.

    Attributes:
        about: how chains are judged, with {metric} and {template} of the scoring.
        fits: whether it is for a question.
        judge: what runs chains, made of the backbone, the memory for what chains share (bytes, None for a share of what
            is free), the metric, the prompt of open questions, and whether long prompts are cut.
        asked: a question as it is put, for people.
        good: the least reward of a good chain.
        final: name of the reward by which an evaluation judges what it found; "" is this one.
        measure: what its mean is called.
        decoy: the answer that the luck control searches for, given the question, what base makes of it, and a seed.
        continuous: whether it is a measure, whose margin is in nats and gains are differences of margins, and not right
            or wrong.
        of_options: whether the scores of the options tell it, so that those of a menu can be kept and read again.
    """

    about: str
    fits: Callable[[Question], bool]
    judge: Callable[[Backbone, int | None, Metric, Prompt, bool], ModelJudge]
    asked: Callable[[Question, Template, Prompt, Any], Asked]
    good: float = 1.0
    final: str = ""
    measure: str = "accuracy"
    decoy: Callable[[Question, Scores, int], int | None] = wrong_option
    continuous: bool = False
    of_options: bool = False

    def is_good(self, reward: float) -> bool:
        """Whether a chain of this reward is good."""
        return reward >= self.good


def _score(backbone: Backbone, cache: int | None, metric: Metric, prompt: Prompt, cut: bool) -> ModelJudge:
    return OptionScorer(Executor(backbone, cache), metric, truncate=cut)


def _verify(backbone: Backbone, cache: int | None, metric: Metric, prompt: Prompt, cut: bool) -> ModelJudge:
    return AnswerVerifier(Executor(backbone, cache), prompt, truncate=cut)


def _write(backbone: Backbone, cache: int | None, metric: Metric, prompt: Prompt, cut: bool) -> ModelJudge:
    return AnswerWriter(backbone, prompt, cache, cut)


def asked_options(question: Question, template: Template, prompt: Prompt, tokenizer: Any) -> Asked:
    """A question with its options."""
    sample = as_sample(question, template)
    title = f"{len(sample.continuations)} options, of which the best scored is the answer"
    return Asked(sample.contexts[question.gold], sample.continuations, question.gold, title)


def _asked_spellings(question: Question, template: Template, prompt: Prompt, tokenizer: Any) -> Asked:
    answer = question.choices[question.gold]
    behind = prompt.continuations(answer, str(tokenizer.eos_token))
    title = f"right if greedy decoding writes one of these, spellings of {answer!r}"
    return Asked(prompt.text(question.text, tokenizer), behind, -1, title, prompt.max_new_tokens)


def _asked_to_write(question: Question, template: Template, prompt: Prompt, tokenizer: Any) -> Asked:
    text, most = prompt.text(question.text, tokenizer), prompt.max_new_tokens
    title = f"up to {most} tokens are written from here; right is {question.choices[question.gold]!r}"
    return Asked(text, (), -1, title, most)


def _asked_to_follow(question: Question, template: Template, prompt: Prompt, tokenizer: Any) -> Asked:
    sample = as_sample(question, template)
    if not any(sample.continuations):
        return Asked(sample.prompt, (), -1, f"how likely its own response is, up to {MOST_TOKENS} tokens of it")
    title = f"how likely this response is, up to {MOST_TOKENS} tokens of it"
    return Asked(sample.prompt, sample.continuations, 0, title)


def _of_response(measure: Measure, about: str) -> Reward:
    def judge(backbone: Backbone, cache: int | None, metric: Metric, prompt: Prompt, cut: bool) -> ModelJudge:
        return ResponseJudge(Executor(backbone, cache), measure, cut)

    return Reward(
        about,
        lambda question: question.kind == "response",
        judge,
        _asked_to_follow,
        good=GOOD_RESPONSE,
        measure=measure,
        decoy=lambda question, base, seed: None,
        continuous=True,
    )


REWARDS = {
    "choices": Reward(
        "{metric} of {template} scoring",
        lambda question: question.kind == "choices",
        _score,
        asked_options,
        of_options=True,
    ),
    "verify": Reward(
        "answers verified, right ones written too",
        lambda question: question.kind == "open",
        _verify,
        _asked_spellings,
        final="generate",
    ),
    "generate": Reward(
        "answers written greedily and graded",
        lambda question: question.kind == "open",
        _write,
        _asked_to_write,
    ),
    "likelihood": _of_response("likelihood", "bits per byte of the response, those of base being 1"),
    "fidelity": _of_response("fidelity", "exp(-KL) to the base chain's next tokens, along the response"),
    "acceptance": _of_response("acceptance", "share of the response's tokens that the base chain predicts alike"),
}
"""By name; a question's reward is the first that fits it. Those of one's own are added under their dotted paths."""


def use_reward(name: str) -> Reward:
    """A reward that the user names: one of cola-learn's, or the dotted path of one of their own.

    Raises:
        UserError: if there is none.
    """
    reward = REWARDS[name] = by_name(name, REWARDS, Reward, "--reward")
    return reward


def reward_of(name: str) -> Reward:
    """The reward that labels name. One of the user's own is imported only where the user names it: labels may be
    anybody's.

    Raises:
        UserError: if it has not been named.
    """
    if name not in REWARDS:
        raise UserError(f"the labels were made with the reward {name}; name it too: --reward {name}")
    return REWARDS[name]
