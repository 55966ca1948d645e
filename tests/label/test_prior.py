"""Priors: from a scan of other questions and from a controller, through files that name what is wrong with them."""

import json
from pathlib import Path

import pytest
import torch

from cola_learn.chains import Chain, Repeat, SearchSpace, Skip
from cola_learn.errors import UserError
from cola_learn.label.heat import heat_map
from cola_learn.label.manifest import Manifest
from cola_learn.label.methods import MCTS
from cola_learn.label.prior import edit_gains, load_priors, write_priors
from cola_learn.label.records import Label, Trial
from cola_learn.label.store import LabelStore
from cola_learn.tasks.questions import Question
from cola_learn.train.choice import ChoiceRule
from cola_learn.train.config import ControllerConfig
from cola_learn.train.controller import Controller
from cola_learn.train.controller_prior import controller_prior

QUESTION = Question("pets", "test", "1", "Which?", ("a", "b"), 0)


def label(name: str, base: float, **margins: float) -> Label:
    texts = {"skip": "0-2 4-5", "loop": "0 (1)x2 2-5", "both": "0-1 4 4"}
    trials = [Trial(Chain.base(6), 0.0, base, 1)]
    trials += [Trial(Chain.parse(texts[chain], 6), 0.0, margin, 1) for chain, margin in margins.items()]
    return Label("pets", "test", name, tuple(trials))


LABELS = [label("1", -1.0, skip=0.0, loop=-2.0, both=9.0), label("2", 1.0, skip=4.0)]


def store_of(folder: Path, labels: list[Label]) -> Path:
    manifest = Manifest("tiny", "f00d", 6, "float32", "pets", "test", "cloze", "acc", {}, {}, 0)
    LabelStore.create(folder, manifest).append(labels)
    return folder


def test_gains_are_means_over_questions_of_single_edits() -> None:
    assert edit_gains(LABELS) == {Skip(3): (2.0, 2), Repeat(1): (-1.0, 1)}


def test_a_store_is_a_prior(tmp_path: Path) -> None:
    settings = MCTS(prior=store_of(tmp_path, LABELS), prior_temperature=3.0)
    priors = load_priors(settings, 6)
    assert priors
    prior = priors(QUESTION)
    assert prior
    assert prior[Skip(3)] / prior[Repeat(1)] == pytest.approx(torch.tensor(1.0).exp().item())
    with pytest.raises(UserError, match="6 layers, not 8"):
        load_priors(settings, 8)


def test_what_is_no_prior_is_named(tmp_path: Path) -> None:
    empty = store_of(tmp_path / "empty", [label("1", 0.0)])
    (tmp_path / "bad.jsonl").write_text('{"task": 1}\n')
    for path, message in ((empty, "no chains of one edit"), (tmp_path / "bad.jsonl", "bad.jsonl cannot be read")):
        with pytest.raises(UserError, match=message):
            load_priors(MCTS(prior=path), 6)
    with pytest.raises(UserError, match="not a label store"):
        load_priors(MCTS(prior=tmp_path / "nowhere"), 6)


def test_a_controller_is_a_prior_of_each_question(tmp_path: Path) -> None:
    """The weights are the probabilities of the chains that hold each edit, and come back from the file."""
    torch.manual_seed(0)
    config = ControllerConfig(6, 8, SearchSpace(2, 1), (0, 2), 16, 1, 2, 0.0, "tiny", "f00d")
    controller = Controller(config).eval()
    features = torch.randn(5, 2, 8).bfloat16().float()
    prior = controller_prior(controller, features, beams=8)
    written = controller.write(features, 8)
    for edit, weight in prior.items():
        holding = [logprob for chain, logprob in written if edit in config.space.decompose(chain)]
        assert weight == pytest.approx(torch.tensor(holding).exp().sum().item())
    file = tmp_path / "prior.jsonl"
    write_priors(file, {QUESTION: prior}, 6)
    priors = load_priors(MCTS(prior=file), 6)
    assert priors
    assert priors(QUESTION) == prior
    assert priors(Question("pets", "test", "2", "", ("a", "b"), 0)) is None
    assert len(json.loads(file.read_text())["edits"]) == len(prior)


def test_predicted_gains_are_no_log_probabilities() -> None:
    """Gains of some hundredths, taken for log-probabilities, would make a nearly flat prior."""
    menu = ("0-5", "0-2 4-5", "0 (1)x2 2-5")
    config = ControllerConfig(6, 8, SearchSpace(2, 1), (0,), 16, 1, 2, 0.0, menu=menu)
    controller = Controller(config, ChoiceRule("gain", priced=True)).eval()
    features = torch.randn(5, 1, 8)
    gains = dict(controller.write(features, 3))
    weights = torch.tensor([gains[chain] / 0.01 for chain in controller.menu]).double().softmax(0)
    prior = controller_prior(controller, features, beams=3, temperature=0.01)
    assert prior == {
        Skip(3): pytest.approx(float(weights[1]), rel=1e-4),
        Repeat(1): pytest.approx(float(weights[2]), rel=1e-4),
    }


def test_the_heat_map_is_drawn_from_single_edits() -> None:
    drawn = heat_map(LABELS, 6)
    assert drawn is not None
    assert drawn.startswith("<svg")
    for text in ("skipped", "run 2 times", "mean change of margin"):
        assert text in drawn
    assert heat_map([label("1", 0.0)], 6) is None
