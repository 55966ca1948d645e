"""The second real model: a beginning-of-text token, layers with a sliding window, a vocabulary of 262,144."""

import pytest
import torch

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.generate import Generator
from cola_learn.chains import Chain
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Sample, as_sample
from tests.architectures import rebuilt_logits

pytestmark = pytest.mark.slow
CHAINS = ("0-17", "0-4 6-17", "0-9 (10)x2 11-17", "0-3 (4-6)x2 8-17")


def test_prompts_begin_with_its_own_token(gemma32: Backbone) -> None:
    assert gemma32.encoder.special_tokens == "<bos>"
    tokens = gemma32.encoder.prompt("Question: Why?\nAnswer:")
    assert tokens == gemma32.tokenizer.encode("Question: Why?\nAnswer:")
    assert tokens.count(gemma32.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("task", ["arc_easy", "commonsense_qa"])
def test_scores_are_those_of_lm_evaluation_harness(gemma32: Backbone, task: str) -> None:
    from lm_eval.models.huggingface import HFLM

    from benchmarks.parity import compare

    harness = HFLM(pretrained=gemma32.model, tokenizer=gemma32.tokenizer, batch_size=8)
    found = compare(gemma32, harness, task, load_task(task, "validation", 20))
    assert found.same == found.same_norm == 20
    assert found.difference < 2e-3
    assert found.acc_norm[0] >= 0.3  # without its token it is at chance


@pytest.mark.parametrize("text", CHAINS)
def test_options_in_one_sequence_score_as_rows_of_their_own(gemma32: Backbone, text: str) -> None:
    assert gemma32.capabilities.shares_prompts
    assert gemma32.capabilities.shared_prompt_limit == 512
    samples = [as_sample(question) for question in load_task("arc_easy", "validation", 6)]
    words = " ".join(["many"] * 300)
    samples.append(Sample("long", words, (words,) * 4, (" words" * 60, " few", " of them", " said"), (360, 4, 8, 5)))
    scores = []
    for shared in (True, False):
        scorer = OptionScorer(Executor(gemma32), shared_prompt=shared)
        for sample in samples:
            scorer.open(sample)
        assert len(scorer.rows("long")) == (1 if shared else 4)
        scores.append(scorer.score([(sample.key, Chain.parse(text, 18)) for sample in samples]))
    for one, other in zip(*scores, strict=True):
        assert one.values == pytest.approx(other.values, abs=2e-3)


def test_what_is_longer_than_the_window_is_scored_in_rows(gemma32: Backbone) -> None:
    words = " ".join(["many"] * 600)
    scorer = OptionScorer(Executor(gemma32))
    scorer.open(Sample("long", words, (words,) * 2, (" words", " few"), (6, 4)))
    assert len(scorer.rows("long")) == 2


@pytest.mark.parametrize("text", CHAINS)
def test_any_chain_equals_the_rebuilt_model(gemma32: Backbone, text: str) -> None:
    chain = Chain.parse(text, 18)
    prompt = gemma32.encoder.prompt("Question: What do plants need to grow?\nAnswer:")
    generator = Generator(gemma32)
    [written] = generator.generate([prompt], [chain], 5)
    tokens = list(prompt)
    for token in written:
        logits = rebuilt_logits(gemma32.model, chain, torch.tensor([tokens]))
        assert int(logits.reshape(-1, logits.shape[-1])[-1].argmax()) == token
        tokens.append(token)
