"""Scores against the field's harness and a plain forward pass; options behind one prompt against rows of their own."""

import dataclasses
import itertools
import random
from typing import Any

import pytest
import torch

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.rewards.continuations import normalizers
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.rewards.scores import OptionScores
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question, Sample, as_sample


def score(backbone: Backbone, samples: list[Sample], chain: Chain, **options: Any) -> list[OptionScores]:
    scorer = OptionScorer(Executor(backbone), **options)
    for sample in samples:
        scorer.open(sample)
    return scorer.score([(sample.key, chain) for sample in samples])


@pytest.mark.parametrize("count", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_base_scores_are_those_of_lm_evaluation_harness(count: int, smollm32: Backbone, arc: list[Question]) -> None:
    """Question by question, on ARC-Easy questions, in float32, both metrics."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    arc = arc[:count]
    samples = [as_sample(question) for question in arc]
    requests = [
        Instance("loglikelihood", {}, (context, continuation), index)
        for sample in samples
        for index, (context, continuation) in enumerate(zip(sample.contexts, sample.continuations, strict=True))
    ]
    harness = HFLM(pretrained=smollm32.model, tokenizer=smollm32.tokenizer, batch_size=8)
    theirs = iter([value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)])
    ours = score(smollm32, samples, Chain.base(30))
    normalised = score(smollm32, samples[: count // 2], Chain.base(30), metric="acc_norm")
    for question, sample, plain, per_character in itertools.zip_longest(arc, samples, ours, normalised):
        expected = [next(theirs) for _ in question.choices]
        assert plain.values == pytest.approx(expected, abs=2e-3)
        assert plain.choice == max(range(len(expected)), key=expected.__getitem__)
        lengths = [len(choice) for choice in question.choices]
        shares = [value / length for value, length in zip(expected, lengths, strict=True)]
        if per_character:
            assert per_character.choice == max(range(len(shares)), key=shares.__getitem__), sample.key


@pytest.mark.parametrize("task", ["arc_challenge", "winogrande", "hellaswag", "boolq", "commonsense_qa"])
def test_options_behind_one_prompt_score_as_rows_of_their_own(smollm32: Backbone, task: str) -> None:
    samples = [as_sample(question) for question in load_task(task, "validation", 4)]
    for text in ("0-29", "0-11 14-19 (20)x2 21-29"):
        chain = Chain.parse(text, 30)
        shared, apart = (score(smollm32, samples, chain, shared_prompt=way) for way in (True, False))
        for one, other in zip(shared, apart, strict=True):
            assert one.values == pytest.approx(other.values, abs=1e-3)


def test_scores_are_sums_of_log_probabilities(tiny: Backbone) -> None:
    """Against log-softmax of a plain forward of every option, options of very different lengths."""
    draw = random.Random(0)
    words = [f"w{number}" for number in range(50)]
    for _ in range(20):
        prompt = " ".join(draw.choices(words, k=draw.randint(1, 9)))
        options = tuple(" " + " ".join(draw.choices(words, k=draw.randint(1, 6))) for _ in range(draw.randint(2, 5)))
        sample = Sample("t/s/1", prompt, (prompt,) * len(options), options, tuple(map(len, options)))
        found = score(tiny, [sample], Chain.base(6))[0]
        for option, value in zip(options, found.values, strict=True):
            tokens = tiny.tokenizer.encode(prompt + option)
            start = len(tiny.tokenizer.encode(prompt))
            logits = tiny.model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
            expected = sum(float(logits[place - 1, tokens[place]]) for place in range(start, len(tokens)))
            assert value == pytest.approx(expected, abs=1e-4)


def test_a_normalizer_depends_neither_on_other_rows_nor_on_threads() -> None:
    logits = 3 * torch.randn(256, 49_152, generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found += [torch.cat([normalizers(part) for part in logits.split(rows)]) for rows in (1, 2, 17, 256)]
    finally:
        torch.set_num_threads(before)
    assert found[0] == pytest.approx(logits.double().exp().sum(-1).log().tolist(), abs=1e-5)
    assert all(torch.equal(one, found[0]) for one in found)


def test_rewards_and_margins() -> None:
    scores = OptionScores((-3.0, -1.0, -1.5))
    assert scores.choice == 1
    assert [scores.reward(gold) for gold in range(3)] == [0.0, 1.0, 0.0]
    assert [scores.margin(gold) for gold in range(3)] == [-2.0, 0.5, -0.5]
    assert sum(scores.probability(gold) for gold in range(3)) == pytest.approx(1)


def test_an_option_without_tokens_is_refused(tiny: Backbone) -> None:
    sample = Sample("t/s/7", "one two", ("one two",) * 2, (" three", " "), (5, 1))
    with pytest.raises(UserError, match="question t/s/7: option ' ' has no tokens"):
        score(tiny, [sample], Chain.base(6))


@pytest.mark.parametrize("text", ["0-29", "0-11 14-19 (20)x2 21-29"])
def test_pmi_is_the_difference_of_two_plain_scores(text: str, smollm32: Backbone, arc: list[Question]) -> None:
    """Against acc of the question and of its options behind ``Answer:`` alone, through the same chain."""
    chain, samples = Chain.parse(text, 30), [as_sample(question) for question in arc[:6]]
    alone = [dataclasses.replace(sample, contexts=("Answer:",) * len(sample.contexts)) for sample in samples]
    found, joint, apart = (
        score(smollm32, asked, chain, metric=metric)
        for asked, metric in ((samples, "pmi"), (samples, "acc"), (alone, "acc"))
    )
    for pmi, one, other in zip(found, joint, apart, strict=True):
        assert pmi.values == pytest.approx([a - b for a, b in zip(one.values, other.values, strict=True)], abs=1e-4)


def test_pmi_keeps_nothing_of_a_closed_question(tiny: Backbone) -> None:
    scorer = OptionScorer(Executor(tiny), "pmi")
    sample = Sample("t/s/1", "w1 w2", ("w1 w2",) * 2, (" w3", " w4"), (2, 2))
    for _ in range(2):
        scorer.open(sample)
        scorer.score([("t/s/1", Chain.base(6))])
        scorer.close("t/s/1")
    assert scorer.executor.trie.used_bytes == 0


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        *(("arc_easy", "acc_norm"), ("hellaswag", "acc_norm"), ("piqa", "acc_norm"), ("social_iqa", "acc_norm")),
        *(("mmlu", "acc_norm"), ("arc_challenge", "pmi"), ("commonsense_qa", "pmi"), ("openbookqa", "pmi")),
        *(("boolq", "acc"), ("winogrande", "acc"), ("my_file", "acc_norm")),
    ],
)
def test_auto_is_what_olmes_recommends(task: str, metric: str) -> None:
    """arXiv 2406.08446; per character for what it does not name."""
    question = Question(task, "s", "1", "Why?", ("a", "b"), 0)
    assert Scoring(metric="auto").of([question]).metric == metric
    assert Scoring(metric="auto", template="letter").of([question]).metric == "acc"
    assert Scoring(metric="pmi").of([question]).metric == "pmi"
