"""Priors from a scan of other questions, for every method that has the setting."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cola_learn.chains import Chain, Repeat, Skip
from cola_learn.errors import UserError
from cola_learn.label.manifest import Identity, Manifest, Searched, Source
from cola_learn.label.records import Label, Trial
from cola_learn.label.single_edits import edit_gains, heat_map, load_prior
from cola_learn.label.store import LabelStore
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.method import SearchMethod
from cola_learn.search.methods import MCTS


def label(name: str, base: float, **margins: float) -> Label:
    texts = {"skip": "0-2 4-5", "loop": "0 (1)x2 2-5", "both": "0-1 4 4"}
    trials = [Trial(Chain.base(6), 0.0, base, 1)]
    trials += [Trial(Chain.parse(texts[chain], 6), 0.0, margin, 1) for chain, margin in margins.items()]
    return Label("pets", "test", name, tuple(trials))


LABELS = [label("1", -1.0, skip=0.0, loop=-2.0, both=9.0), label("2", 1.0, skip=4.0)]


def store_of(folder: Path, labels: list[Label]) -> Path:
    manifest = Manifest(
        Identity("tiny", "f00d", 6, "float32"),
        Source("pets", "test"),
        Scoring(metric="acc", reward="choices"),
        Searched("MCTS", {}, 50),
    )
    LabelStore.create(folder, manifest).append(labels)
    return folder


def test_gains_are_means_over_questions_of_single_edits() -> None:
    assert edit_gains(LABELS) == {Skip(3): (2.0, 2), Repeat(1): (-1.0, 1)}


def test_a_store_is_a_prior(tmp_path: Path) -> None:
    settings = MCTS(prior=store_of(tmp_path, LABELS), prior_temperature=3.0)
    prior = load_prior(settings, 6)
    assert prior
    assert prior[Skip(3)] / prior[Repeat(1)] == pytest.approx(torch.tensor(1.0).exp().item())
    with pytest.raises(UserError, match="6 layers, not 8"):
        load_prior(settings, 8)


@dataclass(frozen=True)
class Guided(SearchMethod):
    """A search method of one's own that takes a prior."""

    simulations: int = 4
    prior: Path | None = None

    def start(self, num_layers, space, seed, prior=None, twin=None):  # type: ignore[no-untyped-def]
        raise NotImplementedError


def test_a_method_of_one_s_own_gets_the_prior_that_is_set(tmp_path: Path) -> None:
    assert load_prior(Guided(prior=store_of(tmp_path, LABELS)), 6)
    assert load_prior(Guided(), 6) is None


def test_what_is_no_prior_is_named(tmp_path: Path) -> None:
    empty = store_of(tmp_path / "empty", [label("1", 0.0)])
    with pytest.raises(UserError, match="no chains of one edit"):
        load_prior(MCTS(prior=empty), 6)
    with pytest.raises(UserError, match="not a label store"):
        load_prior(MCTS(prior=tmp_path / "nowhere"), 6)


def test_the_heat_map_is_drawn_from_single_edits() -> None:
    drawn = heat_map(LABELS, 6)
    assert drawn is not None
    assert drawn.startswith("<svg")
    for text in ("skipped", "run 2 times", "mean change of margin"):
        assert text in drawn
    with pytest.raises(UserError, match="no chains of one edit to draw"):
        heat_map([label("1", 0.0)], 6)
