"""Rewards of given responses, against a plain forward pass of the model with its layers rearranged."""

import math

import pytest
import torch

from cola_learn.backbone.apply_chain import apply_chain
from cola_learn.backbone.backbone import Backbone
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.rewards.judges import make_judge
from cola_learn.rewards.response_judge import MOST_TOKENS
from cola_learn.rewards.scores import ResponseScores
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question, as_sample

CHAINS = ("0-29", "0-3 5-29", "0-13 16-29", "0-9 (10-11)x2 12-29")


@pytest.fixture(scope="module")
def prompts() -> list[Question]:
    return [load_task(task, "train", limit=2)[1] for task in ("text_rust", "text_gsm8k", "text_news", "text_geometry")]


def scores_of(backbone: Backbone, questions: list[Question], reward: str = "auto") -> list[list[ResponseScores]]:
    judge = make_judge(backbone, Scoring(reward=reward).of(questions))
    for question in questions:
        judge.open(as_sample(question))
    requests = [(one.key, Chain.parse(text, 30)) for text in CHAINS for one in questions]
    found = iter(judge.score(requests))
    return [[next(found) for _ in questions] for _ in CHAINS]  # type: ignore[misc]


@torch.no_grad()
def test_they_are_those_of_a_plain_forward_pass(smollm32: Backbone, prompts: list[Question]) -> None:
    found = scores_of(smollm32, prompts)
    model, tokenizer = smollm32.model, smollm32.tokenizer
    for row, question in enumerate(prompts):
        prompt = tokenizer(question.prefix + question.text + question.suffix).input_ids
        whole = tokenizer(question.prefix + question.text + question.suffix + question.choices[0]).input_ids
        assert whole[: len(prompt)] == prompt
        tokens = torch.tensor([whole[: len(prompt) + MOST_TOKENS]])
        targets = tokens[0, len(prompt) :, None]
        base = model(tokens).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        for text, own in zip(CHAINS, found, strict=True):
            with apply_chain(model, Chain.parse(text, 30)):
                here = model(tokens, use_cache=False).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
            logprobs = here.gather(-1, targets)[:, 0]
            chunks = torch.arange(len(logprobs)) // 16 % 2
            assert own[row].logprob == pytest.approx(float(logprobs.mean()), abs=1e-3)
            halves = [float(logprobs[chunks == half].mean()) for half in (0, 1)]
            assert own[row].halves == pytest.approx(halves, abs=2e-3)
            divergence = float((base.exp() * (base - here)).sum(-1).mean())
            assert own[row].divergence == pytest.approx(divergence, abs=1e-3)
            accepted = (here.argmax(-1) == base.argmax(-1)).double().mean()
            assert own[row].accepted == pytest.approx(float(accepted), abs=1 / 60)  # ties
            expected = float(base.gather(-1, targets).mean() / logprobs.mean())
            assert own[row].reward(0) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("reward", ["likelihood", "fidelity", "acceptance"])
def test_the_base_chain_is_as_itself_and_what_runs_alone_the_same(
    reward: str, smollm: Backbone, prompts: list[Question]
) -> None:
    together = scores_of(smollm, prompts, reward)
    assert [one.reward(0) for one in together[0]] == [1.0] * len(prompts)
    assert [one.margin(0) for one in together[0]] == [
        one.base if reward == "likelihood" else 0.0 for one in together[0]
    ]
    assert all(math.isfinite(one.margin(0)) and one.reward(0) < 1.2 for own in together for one in own)
    assert scores_of(smollm, prompts[1:2], reward)[2] == together[2][1:2]


def test_rewards_are_for_their_kind_of_question(prompts: list[Question], arc: list[Question]) -> None:
    with pytest.raises(UserError, match="--reward likelihood is not for questions with choices such as those of arc"):
        Scoring(reward="likelihood").of(arc)
    with pytest.raises(
        UserError, match=r"--reward choices is not for prompts with responses such as .*; likelihood or"
    ):
        Scoring(reward="choices").of(prompts)
