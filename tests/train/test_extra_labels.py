"""Labels of a search beside those of a menu: trained on, never validated on, and refused where scored otherwise."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cola_learn import LabelStore
from cola_learn.errors import UserError
from cola_learn.train.batches import collate
from cola_learn.train.data import LabelDataModule

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of a search under the menu's metric: those committed, whose margins are of another, as if they were."""
    store = LabelStore.open(DATA / "labels" / "arc_easy-test")
    folder = tmp_path_factory.mktemp("searched") / "labels"
    manifest = replace(store.manifest, scoring=replace(store.manifest.scoring, metric="acc_norm"))
    made = LabelStore.create(folder, manifest)
    with made.writing():
        made.append([label for label in store.read() if label.good][:60])
    return folder


def test_extra_labels_are_trained_on_and_not_validated_on(searched: Path) -> None:
    menu = DATA / "menu" / "pool" / "arc_easy-test"
    alone, both = (
        LabelDataModule(menu, extra, limit=600, trials="all", validation_share=0.5) for extra in (None, searched)
    )
    for data in (alone, both):
        data.setup("fit")
    chains = len(both.menu)
    assert both.menu == alone.menu
    assert len(both.training) > len(alone.training)
    assert [example.gains for example in both.validation] == [example.gains for example in alone.validation]
    assert [example.gains for example in both.training[: len(alone.training)]] == [
        example.gains for example in alone.training
    ]
    assert all(len(example.sequences) == chains for example in both.validation)
    seen = {tuple(example.features.flatten().tolist()) for example in both.validation}
    extra = both.training[len(alone.training) :]
    assert not seen & {tuple(example.features.flatten().tolist()) for example in extra}
    assert max(len(example.sequences) for example in extra) == chains
    batch = collate([both.training[0], extra[0]])
    assert batch.real.sum(1).tolist() == [chains, len(extra[0].sequences)]
    assert torch.equal(batch.real == 0, torch.arange(batch.real.shape[1]) >= batch.real.sum(1, keepdim=True))


def test_labels_under_another_metric_are_refused() -> None:
    with pytest.raises(UserError, match=r"arc_easy is scored by acc, in .* by acc_norm; label it with --metric acc_n"):
        LabelDataModule(DATA / "menu" / "pool" / "arc_easy-test", DATA / "labels" / "arc_easy-test", trials="all")
