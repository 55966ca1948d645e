import dataclasses
from pathlib import Path

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cola_learn.chains import Chain
from cola_learn.cli import UserError
from cola_learn.label import Label, LabelStore, Manifest, Trial
from cola_learn.label.records import pareto_set

MANIFEST = Manifest("tiny", "f00d", 6, "float32", "arc_easy", "test", "cloze", "acc", {"max_block": 4}, {}, 0)

chains = st.lists(st.integers(0, 5), min_size=1, max_size=9).map(lambda layers: Chain(tuple(layers), 6))
trials = st.builds(Trial, chains, st.sampled_from([0.0, 1.0]), st.floats(-9, 9, width=32), st.integers(1, 200))
labels = st.builds(
    Label,
    st.just("arc_easy"),
    st.just("test"),
    st.text(min_size=1),
    st.lists(trials, min_size=1, max_size=6).map(tuple),
)


def label(name: str, *rewards: float) -> Label:
    texts = ["0-5", "0-3 5", "0 (1)x2 2-5", "0-2"]
    found = (Trial(Chain.parse(text, 6), reward, 0.5, 1) for text, reward in zip(texts, rewards, strict=False))
    return Label("arc_easy", "test", name, tuple(found))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(labels, min_size=1, max_size=5, unique_by=lambda label: label.id))
def test_labels_round_trip(tmp_path_factory: pytest.TempPathFactory, found: list[Label]) -> None:
    store = LabelStore.create(tmp_path_factory.mktemp("store"), MANIFEST)
    store.append(found)
    assert LabelStore.open(store.folder).read() == found


def test_store_is_read_by_other_tools(tmp_path: Path) -> None:
    LabelStore.create(tmp_path, MANIFEST).append([label("a", 1, 1, 0, 0)])
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "*.parquet"), cache_dir=str(tmp_path / "c"))
    row = rows["train"][0]
    assert row["id"] == "a"
    assert [trial["chain"] for trial in row["chains"]] == ["0-5", "0-3 5", "0 (1)x2 2-5", "0-2"]
    assert row["pareto"] == [3, 1]


def test_compacting_joins_files_in_order_and_keeps_each_label_once(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path, MANIFEST)
    for name in ("c", "a", "b"):
        store.append([label(name, 1)])
    store.append([label("a", 1)])  # as after a crash between joining and deleting
    store.compact(["arc_easy/test/a", "arc_easy/test/b", "arc_easy/test/c"])
    assert [found.id for found in store.read()] == ["a", "b", "c"]
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["labels-00000.parquet"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("fingerprint", "beef"), ("space", {"max_block": 2}), ("seed", 1), ("task", "piqa"), ("target", "luck")],
)
def test_other_settings_are_refused_and_nothing_changes(tmp_path: Path, name: str, value: object) -> None:
    store = LabelStore.create(tmp_path, MANIFEST)
    store.append([label("a", 1)])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=f"made with {name} .* not"):
        LabelStore.create(tmp_path, dataclasses.replace(MANIFEST, **{name: value}))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damage_is_named(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path, MANIFEST)
    (tmp_path / "labels-00001.parquet").write_bytes(b"half a fi")
    with pytest.raises(UserError, match=r"labels-00001.parquet cannot be read"):
        store.read()
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        LabelStore.open(tmp_path)
    with pytest.raises(UserError, match="is not a label store"):
        LabelStore.open(tmp_path / "nowhere")


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path, MANIFEST)
    with store.writing(), pytest.raises(UserError, match="written by another run"), LabelStore.open(tmp_path).writing():
        pass


def test_label_properties() -> None:
    assert label("a", 1, 1, 0, 0).shortened
    assert not label("a", 1, 0, 1, 0).shortened
    assert label("a", 0, 0, 1, 0).corrected
    assert [trial.chain.depth for trial in label("a", 1, 1, 1, 1).good] == [3, 5, 6, 7]


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(1, 9)), min_size=1))
def test_pareto_set_is_what_nothing_beats(points: list[tuple[float, int]]) -> None:
    front = [points[index] for index in pareto_set(points)]
    for reward, depth in points:
        beaten = any(r >= reward and d <= depth and (r, d) != (reward, depth) for r, d in points)
        assert ((reward, depth) in front) == (not beaten)
    assert len(front) == len(set(front))
