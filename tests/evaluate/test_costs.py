"""What a question costs: operations against what the weights' shapes say."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.chains import Chain, SearchSpace
from cola_learn.evaluate.costs import count_flops, policy_costs
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Metric, Question, as_sample
from cola_learn.train.controller import Controller
from cola_learn.train.controller_config import ControllerConfig
from cola_learn.train.features import prompt_features


def test_operations_are_those_of_the_weights_and_the_attention(
    smollm: Backbone, smollm32: Backbone, arc: list[Question]
) -> None:
    """Whether the weights are packed or not."""
    sample = as_sample(arc[0])

    def counted(scorer: OptionScorer, depth: int) -> tuple[float, int]:
        before = scorer.executor.counters.tokens
        flops = count_flops(lambda: scorer.score([(sample.key, Chain(tuple(range(depth)), 30))]))
        return flops, scorer.executor.counters.tokens - before

    for backbone in (smollm, smollm32):
        scorer = OptionScorer(Executor(backbone, cache_bytes=0))
        scorer.open(sample)
        deep, shallow = counted(scorer, 30), counted(scorer, 20)
        layer, config = backbone.model.model.layers[0], backbone.model.config
        weights = sum(linear.weight.numel() for linear in layer.modules() if isinstance(linear, nn.Linear))
        products = 2 * (deep[1] - shallow[1]) * weights
        attention = 10 * 4 * len(scorer.rows(sample.key)[0].tokens) ** 2 * config.hidden_size
        assert 0.5 * attention < deep[0] - shallow[0] - products < 1.5 * attention  # not all tokens see all others


@pytest.mark.parametrize("sizes", [None, (40, 64, 128), (256,)])
def test_choosing_is_part_of_the_cost(
    smollm: Backbone, arc: list[Question], sizes: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever sizes of calls a CPU computes alike, to which they are filled up."""
    if sizes:
        monkeypatch.setattr(smollm, "capabilities", replace(smollm.capabilities, call_sizes=sizes))
    torch.manual_seed(0)
    config = ControllerConfig(30, 576, SearchSpace(), (0, 8), 32, 1, 2, 0.0, "embedded", smollm.fingerprint)
    base, short = Chain.base(30), Chain(tuple(range(15)), 30)
    chains = {"base": [base], "static": [short], "controller": [short]}
    scorer = OptionScorer(Executor(smollm, cache_bytes=0))
    costs = policy_costs(lambda _: scorer, arc[:1], "cloze", chains, {"controller": Controller(config).eval()})
    assert (costs["base"].flops, costs["base"].seconds) == (1, 1)
    assert all(cost.questions == 1 for cost in costs.values())
    assert costs["static"].flops == pytest.approx(0.5, abs=0.1)
    assert smollm.capabilities.call_sizes == (sizes or smollm.capabilities.call_sizes)
    assert costs["controller"].flops > costs["static"].flops + 0.05  # it reads the prompt after eight layers
    scorer = OptionScorer(Executor(smollm))  # which its chain begins with: where states are kept these run once
    shared = policy_costs(lambda _: scorer, arc[:1], "cloze", chains, {"controller": Controller(config).eval()})
    assert shared["static"].flops == pytest.approx(costs["static"].flops, abs=1e-3)
    assert shared["controller"].flops < shared["static"].flops + 0.01


@pytest.mark.parametrize("metric", ["acc", "pmi"])
def test_prompts_are_read_in_scored_rows_as_by_themselves(
    smollm32: Backbone, arc: list[Question], metric: Metric
) -> None:
    scorer = OptionScorer(Executor(smollm32), metric)
    chain = Chain.base(30)
    for question in arc[:2]:
        sample = as_sample(question)
        scorer.open(sample)
        read = scorer.read_prompt(sample.key, (0, 3, 8))
        [alone] = prompt_features(smollm32, [sample.prompt], (0, 3, 8))
        assert read is not None
        assert read.shape == alone.shape
        assert torch.allclose(read.float(), alone.float(), rtol=0.01, atol=0.01)
        [after] = scorer.score([(sample.key, chain)])
        scorer.close(sample.key)
        scorer.open(sample)
        [expected] = scorer.score([(sample.key, chain)])
        assert after.values == pytest.approx(expected.values, abs=1e-4)
        scorer.close(sample.key)
    blank = load_task("winogrande", "validation", 1)[0]  # its options are in the contexts
    scorer.open(as_sample(blank))
    assert scorer.read_prompt(blank.key, (0,)) is None
