"""Rewards of open questions on the real model, against transformers' own generate."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.chains import Chain
from cola_learn.rewards.answer_judges import AnswerVerifier, AnswerWriter, ConfirmedVerifier
from cola_learn.rewards.prompts import Example, Prompt
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question, Sample, as_sample

FEW_SHOT = Prompt(
    ask="Problem: {question}",
    begin="Answer:",
    end="\n",
    chat=False,
    examples=(Example("What is 3 plus 4?", "7"), Example("What is $20\\%$ of 50?", "10")),
    max_new_tokens=12,
)
BOXED = Prompt(max_new_tokens=12)


@pytest.fixture(scope="module")
def sums() -> list[Question]:
    return load_task("examples.sums.chain_sum_1", "test", 10)


def written_by_transformers(model: Any, tokenizer: Any, prompt: Prompt, sample: Sample) -> str:
    text = prompt.text(sample.prompt, tokenizer)
    tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        whole = model.generate(**tokens, max_new_tokens=prompt.max_new_tokens, do_sample=False)
    return str(tokenizer.decode(whole[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("prompt", [FEW_SHOT, BOXED], ids=["few_shot", "boxed"])
def test_both_rewards_agree_with_transformers_generate(
    smollm32: Backbone, sums: list[Question], prompt: Prompt
) -> None:
    base = Chain.base(smollm32.num_layers)
    scorer, writer = AnswerVerifier(Executor(smollm32), prompt), AnswerWriter(smollm32, prompt)
    verdicts = []
    for question in sums:
        sample = as_sample(question)
        scorer.open(sample)
        writer.open(sample)
        expected = written_by_transformers(smollm32.model, smollm32.tokenizer, prompt, sample)
        written = writer.write([(sample.key, base)])[0]
        assert expected.startswith(written)
        assert prompt.answer_in(written) == prompt.answer_in(expected)
        said = prompt.answer_in(expected).strip()
        for index, answer in enumerate(question.choices):
            assert writer.score([(sample.key, base)])[0].reward(index) == (said == answer)
            assert scorer.score([(sample.key, base)])[0].reward(index) == (said == answer)
        verdicts.append(said == question.choices[0])
    if prompt is FEW_SHOT:
        assert any(verdicts)
        assert not all(verdicts)


def test_margin_is_the_least_lead_and_its_sign_is_the_verdict(smollm32: Backbone, sums: list[Question]) -> None:
    """Against a forward of the plain model on the prompt and the answer, one spelling."""
    scorer = AnswerVerifier(Executor(smollm32), FEW_SHOT)
    question = next(q for q in sums if len(q.choices[0]) == 1)
    sample = as_sample(question)
    scorer.open(sample)
    scores = scorer.score([(sample.key, Chain.base(smollm32.num_layers))])[0]
    assert (scores.margin(0) > 0) == bool(scores.reward(0))
    tokenizer = smollm32.tokenizer
    leads = []
    for text in FEW_SHOT.continuations(question.choices[0], tokenizer.eos_token):
        context = tokenizer.encode(FEW_SHOT.text(question.text, tokenizer), add_special_tokens=False)
        tokens = tokenizer.encode(FEW_SHOT.text(question.text, tokenizer) + text, add_special_tokens=False)
        with torch.inference_mode():
            logits = smollm32.model(torch.tensor([tokens])).logits[0].float()
        pieces = tokenizer.convert_ids_to_tokens(range(logits.shape[-1]))
        own = []
        for place in range(len(context), len(tokens)):
            row, same = logits[place - 1], {tokens[place]}
            if place == len(tokens) - 1:
                same |= {index for index, piece in enumerate(pieces) if piece.startswith(pieces[tokens[place]])}
                same |= {tokenizer.eos_token_id, smollm32.model.generation_config.eos_token_id}
            inside = torch.zeros_like(row, dtype=torch.bool)
            inside[list(same)] = True
            own.append(float(row[inside].max() - row[~inside].max()))
        leads.append(min(own))
    assert scores.margin(0) == pytest.approx(max(leads), abs=2e-3)


def test_other_chains_write_what_they_write_without_any_cache(smollm32: Backbone, sums: list[Question]) -> None:
    chains = [Chain.parse(text, 30) for text in ("0-13 15-29", "0-22 22-29", "0-9 10 10 11-18 20-29")]
    shared, alone = AnswerWriter(smollm32, FEW_SHOT), AnswerWriter(smollm32, FEW_SHOT).alone()
    requests = [(question.key, chain) for question in sums[:4] for chain in chains]
    for question in sums[:4]:
        shared.open(as_sample(question))
        alone.open(as_sample(question))
    assert shared.write(requests) == [alone.write([request])[0] for request in requests]


def test_confirmed_is_what_is_right_both_ways(smollm: Backbone, sums: list[Question]) -> None:
    """The writer is given no room to finish, so it confirms nothing that takes more than a token."""
    base = Chain.base(smollm.num_layers)
    scorer = AnswerVerifier(Executor(smollm), FEW_SHOT)
    whole = ConfirmedVerifier(scorer, AnswerWriter(smollm, FEW_SHOT))
    short = ConfirmedVerifier(scorer.alone(), AnswerWriter(smollm, replace(FEW_SHOT, max_new_tokens=1)))
    verified = confirmed = cut = 0.0
    for question in sums:
        sample = as_sample(question)
        whole.open(sample)
        short.open(sample)
        request = [(sample.key, base)]
        verified += scorer.score(request)[0].reward(0)
        confirmed += whole.score(request)[0].reward(0)
        cut += short.score(request)[0].reward(0)
        whole.close(sample.key)
        short.close(sample.key)
    assert 0 < confirmed <= verified
    assert cut == 0


def test_spellings_behind_one_prompt_score_as_separate_ones(smollm32: Backbone, sums: list[Question]) -> None:
    chain = Chain.parse("0-13 15-29", 30)
    shared, separate = (AnswerVerifier(Executor(smollm32), FEW_SHOT, choice) for choice in (True, False))
    for question in sums[:3]:
        sample = as_sample(question)
        shared.open(sample)
        separate.open(sample)
        one, other = shared.score([(sample.key, chain)])[0], separate.score([(sample.key, chain)])[0]
        for index in range(2):
            assert one.margin(index) == pytest.approx(other.margin(index), abs=2e-3)
            assert one.probability(index) == pytest.approx(other.probability(index), abs=1e-4)


def test_prompts_say_what_is_wrong_with_them() -> None:
    with pytest.raises(ValueError, match="question"):
        Prompt(ask="Solve it.")
    with pytest.raises(ValueError, match="max_new_tokens"):
        Prompt(max_new_tokens=0)
    with pytest.raises(ValueError, match="end"):
        Prompt(begin="", chat=False)


@given(st.text("5x.,{}$\\ \n", max_size=8), st.text("5x.,{}$\\ \n", max_size=8))
def test_a_finished_answer_stays_what_it_is(written: str, more: str) -> None:
    if BOXED.finished(written):
        assert BOXED.answer_in(written + more) == BOXED.answer_in(written)


def test_a_box_without_braces_is_verified_and_written(smollm32: Backbone) -> None:
    """This chain answers a MATH problem in the form ``\\boxed 5.``; both ways must read it so, and no other digit."""
    question = next(q for q in load_task("dart_math_1", "test") if q.id == "number_theory/220")
    chain = Chain.parse("0-12 (13-14)x5 (15-17)x4 18-19 (20-23)x4 24-29", 30)
    for answer in ("5", "3", "50"):
        sample = as_sample(replace(question, choices=(answer, "1"), gold=0))
        for judge in (AnswerVerifier(Executor(smollm32), BOXED), AnswerWriter(smollm32, BOXED)):
            judge.open(sample)
            assert judge.score([(sample.key, chain)])[0].reward(0) == (answer == "5")


def test_finished_waits_for_the_matching_brace() -> None:
    assert not BOXED.finished("{\\frac{1}")
    assert BOXED.finished("{\\frac{1}{2}}.")
    assert BOXED.answer_in("{\\frac{1}{2}}. So") == "\\frac{1}{2}"
    assert not BOXED.finished(" 5")
    assert not BOXED.finished(" 5.")
    assert BOXED.finished(" 5.25.\n")
    assert BOXED.answer_in(" 5.25.\n\nSo") == "5.25"
    assert not FEW_SHOT.finished("\n 7")
    assert FEW_SHOT.finished(" 7\n\nProblem:")
    assert FEW_SHOT.answer_in(" 7\n\nProblem: 9") == "7"
