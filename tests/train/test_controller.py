"""The controller writes every legal chain and only those, and can learn what there is to learn."""

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.chains import Chain, SearchSpace
from cola_learn.errors import UserError
from cola_learn.train.batches import pad_features
from cola_learn.train.controller import Controller
from cola_learn.train.controller_config import ControllerConfig
from cola_learn.train.data import Example, chain_weights, collate
from cola_learn.train.module import ControllerModule
from cola_learn.train.vocabulary import STOP, EditVocabulary

CONFIG = ControllerConfig(4, 16, SearchSpace(2, 1), (0, 1), width=32, blocks=1, heads=2, dropout=0.0)


def all_chains(num_layers: int, space: SearchSpace) -> set[Chain]:
    """Every chain of a small disjoint space, by applying edits until nothing new comes."""
    found, edge = {Chain.base(num_layers)}, [Chain.base(num_layers)]
    while edge:
        chain = edge.pop()
        for edit in space.legal_edits(chain):
            after = space.apply(chain, edit)
            if after not in found:
                found.add(after)
                edge.append(after)
    return found


def legal_sequences(vocabulary: EditVocabulary, begun: tuple[int, ...] = (STOP,)) -> list[tuple[int, ...]]:
    mask = vocabulary.legal(torch.tensor([begun]))[0]
    tokens = mask.nonzero().flatten().tolist()
    done = [(*begun[1:], STOP)] if STOP in tokens else []
    return done + [
        sequence for token in tokens if token != STOP for sequence in legal_sequences(vocabulary, (*begun, token))
    ]


@pytest.mark.parametrize("operations", ["both", "skip", "repeat"])
def test_legal_sequences_are_the_chains_of_the_space_each_once(operations: str) -> None:
    space = SearchSpace(2, 2, operations)  # type: ignore[arg-type]
    vocabulary = EditVocabulary(4, space)
    sequences = legal_sequences(vocabulary)
    chains = [vocabulary.decode(list(sequence)) for sequence in sequences]
    assert len(chains) == len(set(chains))
    assert set(chains) == all_chains(4, space)
    assert [tuple(vocabulary.encode(chain)) for chain in chains] == sequences


@given(st.data())
def test_encoding_round_trips(data: st.DataObject) -> None:
    space = SearchSpace()
    chain = Chain.base(30)
    for _ in range(data.draw(st.integers(0, 6))):
        if legal := space.legal_edits(chain):
            chain = space.apply(chain, data.draw(st.sampled_from(legal)))
    vocabulary = EditVocabulary(30, space)
    assert vocabulary.decode(vocabulary.encode(chain)) == chain


def test_nested_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"space.edits: disjoint"):
        EditVocabulary(4, SearchSpace(edits="nested"))


@pytest.fixture
def controller() -> Controller:
    torch.manual_seed(3)
    controller = Controller(CONFIG).eval()
    for parameter in controller.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return controller


@torch.no_grad()
def log_probability(controller: Controller, features: torch.Tensor, sequence: tuple[int, ...]) -> float:
    tokens = torch.tensor([[STOP, *sequence]])
    padded, padding = pad_features([features])
    scores = controller(*controller.encode(padded, padding), tokens[None, :, :-1])[0, 0]
    return float(sum(scores[place, token] for place, token in enumerate(sequence)))


def test_probabilities_of_all_chains_add_up_to_one_and_beams_find_the_best(controller: Controller) -> None:
    features = torch.randn(5, 2, 16)
    with torch.inference_mode():
        scored = {
            sequence: log_probability(controller, features, sequence)
            for sequence in legal_sequences(controller.vocabulary)
        }
    assert sum(map(torch.tensor, scored.values())).isfinite()
    assert float(torch.tensor(list(scored.values())).exp().sum()) == pytest.approx(1, abs=1e-4)
    ranked = sorted(scored.items(), key=lambda pair: -pair[1])
    written = controller.write(features, beams=len(ranked))
    assert [chain for chain, _ in written] == [controller.vocabulary.decode(list(tokens)) for tokens, _ in ranked]
    assert [score for _, score in written] == pytest.approx([score for _, score in ranked], abs=1e-4)
    greedy: tuple[int, ...] = ()
    while not greedy or greedy[-1] != STOP:
        choices = {s[: len(greedy) + 1] for s in scored if s[: len(greedy)] == greedy}
        totals = {c: sum(torch.tensor(v).exp() for s, v in scored.items() if s[: len(c)] == c) for c in choices}
        greedy = max(totals, key=totals.__getitem__)
    assert controller.choose(features) == controller.vocabulary.decode(list(greedy))


def test_padding_changes_nothing(controller: Controller) -> None:
    short, long = torch.randn(3, 2, 16), torch.randn(9, 2, 16)
    padded, padding = pad_features([short, long])
    tokens = torch.zeros(2, 1, dtype=torch.long)
    both = controller(*controller.encode(padded, padding), tokens[:, None])
    one, mask = pad_features([short])
    alone = controller(*controller.encode(one, mask), tokens[:1, None])
    assert torch.allclose(both[0].exp(), alone[0].exp(), atol=1e-5)


def test_weights_prefer_shorter_chains_and_count_each_sample_once() -> None:
    weights = chain_weights([24, 28, 30], 30, depth_preference=5.0)
    assert sum(weights) == pytest.approx(1)
    assert weights[0] > weights[1] > weights[2]
    assert weights[0] / weights[2] == pytest.approx(2.718281828 ** (5.0 * 6 / 30))
    assert chain_weights([24, 30], 30, depth_preference=0.0) == [0.5, 0.5]


def test_it_learns_a_rule_from_the_prompt() -> None:
    """Two kinds of prompts with different good chains: after training every new prompt gets its own."""
    torch.manual_seed(0)
    module = ControllerModule(shape=dataclasses.asdict(CONFIG))
    controller = module.controller
    assert controller is not None
    kinds = [Chain.parse("0 2-3", 4), Chain.parse("0-1 (2)x2 3", 4)]
    direction = torch.randn(16)

    def prompt(kind: int) -> torch.Tensor:
        return torch.randn(4, 2, 16) + (2 * kind - 1) * direction

    def example(kind: int) -> Example:
        return Example(prompt(kind), (tuple(controller.vocabulary.encode(kinds[kind])),), (1.0,))

    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    for _ in range(60):
        loss = module._loss(collate([example(kind) for kind in (0, 1) * 8]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(controller.choose(prompt(kind)) == kinds[kind] for kind in (0, 1) * 10)


def test_loss_is_the_weighted_likelihood(controller: Controller) -> None:
    """Against the sum written out chain by chain, with prompts and chains of different lengths."""
    module = ControllerModule(shape=dataclasses.asdict(CONFIG))
    module.controller = controller
    sequences = legal_sequences(controller.vocabulary)
    examples = [
        Example(torch.randn(3, 2, 16), tuple(sequences[:3]), (0.5, 0.3, 0.2)),
        Example(torch.randn(7, 2, 16), tuple(sequences[3:5]), (0.9, 0.1)),
    ]
    expected = -sum(
        weight * log_probability(controller, example.features, sequence)
        for example in examples
        for sequence, weight in zip(example.sequences, example.weights, strict=True)
    )
    assert module._loss(collate(examples)).item() == pytest.approx(expected / 2, abs=1e-4)


def test_saved_controllers_load_and_damage_is_named(controller: Controller, tmp_path: Path) -> None:
    controller.save_pretrained(tmp_path)
    loaded = Controller.from_pretrained(tmp_path)
    assert loaded.config == controller.config
    features = torch.randn(6, 2, 16)
    assert loaded.write(features, 5) == controller.write(features, 5)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((tmp_path / "config.json").read_text())
    config["controller"]["num_layers"] = 7
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"controller .* cannot be read"):
        Controller.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 10)
    with pytest.raises(UserError, match=r"controller .* cannot be read"):
        Controller.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="is not an exported controller"):
        Controller.from_pretrained(tmp_path / "nowhere")


def test_another_depth_is_refused(controller: Controller) -> None:
    with pytest.raises(UserError, match="for 4 layers; backbone gpt2 has 12"):
        controller.config.check_backbone(12, "x", "gpt2")
    with pytest.raises(UserError, match="was trained for backbone"):
        controller.config.check_backbone(4, "x", "other")


def test_features_are_the_backbone_s_own_hidden_states() -> None:
    from cola_learn.backbone.backbone import Backbone
    from cola_learn.train.features import prompt_features
    from tests.conftest import WordTokenizer, tiny_llama

    model = tiny_llama()
    backbone = Backbone(model, WordTokenizer(), "tiny")
    prompts = ["one two three", "a much longer prompt than that one is"]
    for prompt, features in zip(prompts, prompt_features(backbone, prompts, (0, 2, 5)), strict=True):
        tokens = torch.tensor([backbone.tokenizer.encode(prompt)])
        states = model(input_ids=tokens, output_hidden_states=True).hidden_states
        for place, layer in itertools.product(range(tokens.shape[1]), range(3)):
            expected = states[(0, 2, 5)[layer]][0, place].to(torch.bfloat16)
            assert torch.allclose(features[place, layer], expected, rtol=0.02, atol=1e-3)
