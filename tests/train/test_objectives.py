"""Objectives against sums written out chain by chain; that each learns its lesson; when gains are believed."""

import dataclasses
import itertools
import math
from typing import Any

import numpy
import pytest
import torch

from cola_learn.chains import Chain, SearchSpace
from cola_learn.train.batches import Example, collate, mean_and_last_token, pad_features
from cola_learn.train.choice import ChoiceRule, Choices, calibrate, collapse
from cola_learn.train.controller import Controller
from cola_learn.train.controller_config import ControllerConfig
from cola_learn.train.module import ControllerModule
from cola_learn.train.vocabulary import STOP

MENU = ("0-3", "0 2-3", "0-1 (2)x2 3", "0-1 3")
CONFIG = ControllerConfig(4, 16, SearchSpace(2, 1), (0, 1), width=32, blocks=1, heads=2, dropout=0.0, menu=MENU)


def module_for(objective: str, rule: ChoiceRule | None = None, **changes: Any) -> ControllerModule:
    torch.manual_seed(1)
    shape = dataclasses.asdict(dataclasses.replace(CONFIG, **changes))
    return ControllerModule(objective, shape=shape, rule=rule and dataclasses.asdict(rule), weight_decay=0.0)


def example_of(controller: Controller, features: torch.Tensor, gains: tuple[float, ...]) -> Example:
    chains = [Chain.parse(text, 4) for text in MENU]
    rewards = tuple(float(gain >= 0) for gain in gains)
    weights = tuple(reward / sum(rewards) for reward in rewards)
    sequences = tuple(tuple(controller.vocabulary.encode(chain)) for chain in chains)
    return Example(features, sequences, weights, gains, tuple(chain.depth / 4 for chain in chains), "t")


@torch.no_grad()
def alone(controller: Controller, features: torch.Tensor, text: str) -> tuple[float, float]:
    """Log-probability and value of one chain of one prompt, token by token."""
    tokens = [STOP, *controller.vocabulary.encode(Chain.parse(text, 4))]
    padded, padding = pad_features([features])
    memory = controller.encode(padded, padding, torch.zeros(1))
    total = 0.0
    for place in range(1, len(tokens)):
        total += float(controller(*memory, torch.tensor([[tokens[:place]]]))[0, 0, -1, tokens[place]])
    state = controller.decode(*memory, torch.tensor([[tokens[:-1]]]))[0, 0, -1]
    suits = float(controller.suits(state) @ memory[0][0].mean(0)) / controller.config.width**0.5
    return total, float(controller.value(state)[0]) + suits


@pytest.fixture
def examples() -> list[Example]:
    controller = module_for("value").controller
    assert controller is not None
    return [
        example_of(controller, torch.randn(3, 2, 16), (0.0, 0.3, -0.2, 0.1)),
        example_of(controller, torch.randn(7, 2, 16), (0.0, -0.3, 0.4, -0.1)),
    ]


def test_chains_are_weighed_as_each_is_alone(examples: list[Example]) -> None:
    controller = module_for("value").controller
    assert controller is not None
    prompts = [example.features for example in examples]
    gains = controller.weigh_all(prompts, price=0.0)
    controller.rule = ChoiceRule("probability")
    logprobs = controller.weigh_all(prompts, price=0.0)
    for row, prompt in enumerate(prompts):
        found = [alone(controller, prompt, text) for text in MENU]
        assert logprobs[row].tolist() == pytest.approx([logprob for logprob, _ in found], abs=1e-5)
        assert gains[row].tolist() == pytest.approx([value - found[0][1] for _, value in found], abs=1e-5)


@pytest.mark.parametrize("objective", ["imitation", "value"])
@pytest.mark.parametrize("pooling", ["attend", "components"])
def test_every_objective_learns_which_prompt_wants_which_chain(objective: str, pooling: str) -> None:
    module = module_for(objective, pooling=pooling, components=4)
    controller = module.controller
    assert controller is not None
    direction = torch.randn(16)
    gains = ((0.0, 0.4, -0.4, -0.4), (0.0, -0.4, 0.4, -0.4))

    def prompt(kind: int) -> torch.Tensor:
        return torch.randn(4, 2, 16) + (2 * kind - 1) * direction

    controller.fit_components([prompt(kind) for kind in (0, 1) * 20])
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    for _ in range(120):
        loss = module._loss(collate([example_of(controller, prompt(kind), gains[kind]) for kind in (0, 1) * 8]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for kind in (0, 1) * 5:
        ranked = controller.write(prompt(kind), beams=4)
        assert len(ranked) == 4
        if objective == "imitation":  # the base chain is as good an example as the gaining one
            assert {str(chain) for chain, _ in ranked[:2]} == {MENU[0], MENU[1 + kind]}
        else:
            assert str(controller.choose(prompt(kind))) == MENU[1 + kind]


def test_components_are_those_of_the_prompts_means_and_last_tokens() -> None:
    controller = module_for("value", pooling="components", components=3).controller
    assert controller is not None
    prompts = [torch.randn(length, 2, 16) * torch.linspace(0.1, 3, 16) for length in (3, 7, 5, 4, 9, 2, 6, 8)]
    controller.fit_components(prompts)
    means = numpy.stack([torch.cat([prompt.mean(0), prompt[-1]]).flatten().numpy() for prompt in prompts]).astype(float)
    scaled = (means - means.mean(0)) / means.std(0)
    left, sizes, _ = numpy.linalg.svd(scaled, full_matrices=False)
    expected = left[:, :3] * sizes[:3]
    expected /= expected[:, 0].std(ddof=1)
    read = torch.cat([controller.scale(mean_and_last_token(*pad_features([prompt]))) for prompt in prompts]).numpy()
    distances = (expected**2 / expected.var(0, ddof=1)).sum(1)
    far = distances > numpy.quantile(distances, 0.99)
    assert far.sum() == 1  # the farthest of eight
    expected[far] = 0
    assert numpy.abs(read) == pytest.approx(numpy.abs(expected), abs=1e-4)  # the sign of a component is arbitrary
    strange = [prompt + 5 for prompt in prompts]
    others = torch.cat([controller.scale(mean_and_last_token(*pad_features([prompt]))) for prompt in strange])
    assert not others.any()  # read as the average prompt


def test_a_price_buys_shorter_chains_and_a_threshold_keeps_the_base_chain() -> None:
    controller = module_for("value").controller
    assert controller is not None
    prompts = [torch.randn(5, 2, 16) for _ in range(40)]
    depths = [
        sum(controller.choose(prompt, price=price).depth for prompt in prompts) for price in (0.0, 0.5, 2.0, 100.0)
    ]
    assert depths == sorted(depths, reverse=True)
    assert depths[-1] == 3 * len(prompts)
    controller.rule = dataclasses.replace(controller.rule, threshold=1e9)
    assert all(controller.choose(prompt, price=2.0).is_base for prompt in prompts)


def test_gains_are_believed_only_where_they_came_true() -> None:
    draws = numpy.random.default_rng(0)
    predicted = draws.normal(0, 0.1, (600, 4))
    predicted[:, 0] = 0
    true = 0.5 * predicted + draws.normal(0, 0.05, predicted.shape)
    true[:, 0] = 0
    rule = calibrate(predicted, true, 0.05)
    assert rule.gain_scale == pytest.approx(0.5, abs=0.03)
    assert rule.threshold < 0.05
    moved = calibrate(predicted + 0.03, true + numpy.array([0, 0.1, -0.2, 0.3]), 1.0)
    promised = moved.gain_scale * (predicted + 0.03) + moved.shifts
    assert promised[:, 1:].mean(0) == pytest.approx(true[:, 1:].mean(0) + numpy.array([0.1, -0.2, 0.3]))
    unrelated = draws.normal(0, 0.1, predicted.shape)
    unrelated[:, 0] = 0
    assert calibrate(predicted, unrelated - 0.02, 0.05).threshold == 1e9
    assert calibrate(predicted, -predicted, 0.05).gain_scale == 0
    assert calibrate(predicted, true, 1.0).threshold == 0


def test_false_alarms_are_as_rare_as_asked() -> None:
    """Where nothing gains, some rule is believed in no more than the stated share of tries."""
    draws = numpy.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        predicted, came = draws.normal(0, 1, (2, 200, 3))
        predicted[:, 0] = came[:, 0] = 0
        alarms += calibrate(predicted, came, 0.05).threshold < 1e9
    assert alarms <= 0.05 * 200 + 3 * math.sqrt(200 * 0.05 * 0.95)


def test_collapse_is_seen() -> None:
    tasks = numpy.array(["a"] * 50 + ["b"] * 50)
    gains = numpy.zeros((100, 3))
    gains[:50, 1] = gains[50:, 2] = 0.2
    depths = numpy.array([1.0, 0.9, 0.8])
    split = collapse(Choices(numpy.array([1] * 50 + [2] * 50), gains, depths, tasks))
    assert split["task_information_bits"] == pytest.approx(1)
    assert split["entropy_bits"] == pytest.approx(1)
    assert split["base_share"] == 0
    assert split["shuffled_gain"] == pytest.approx(0.1, abs=0.03)
    stuck = collapse(Choices(numpy.zeros(100, dtype=int), gains, depths, tasks))
    assert stuck["base_share"] == stuck["largest_share"] == 1
    assert stuck["entropy_bits"] == stuck["task_information_bits"] == 0


def test_a_menu_survives_export(tmp_path: object, examples: list[Example]) -> None:
    from pathlib import Path

    controller = module_for("value", ChoiceRule("gain", True, 0.1, 0.5, (0.0, 0.1, -0.1, 0.2), 0.25)).controller
    assert controller is not None
    folder = Path(str(tmp_path))
    controller.save_pretrained(folder)
    loaded = Controller.from_pretrained(folder)
    assert (loaded.config, loaded.rule) == (controller.config, controller.rule)
    assert loaded.menu == controller.menu
    for example, price in itertools.product(examples, (None, 0.0, 1.0)):
        assert loaded.write(example.features, 4, price) == controller.eval().write(example.features, 4, price)
