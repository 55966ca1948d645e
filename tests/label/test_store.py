import contextlib
import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cola_learn.chains import Chain, SearchSpace
from cola_learn.errors import UserError
from cola_learn.files import read_json, write_json
from cola_learn.label.manifest import FORMAT, Identity, Manifest, Searched, Source
from cola_learn.label.records import Label, Luck, Trial, pareto_set
from cola_learn.label.store import LabelStore
from cola_learn.rewards.scoring import Scoring

MANIFEST = Manifest(
    Identity("tiny", "f00d", 6, "float32"),
    Source("arc_easy", "test"),
    Scoring(metric="acc", reward="choices"),
    Searched("MCTS", {"simulations": 50}, 50),
)

chains = st.lists(st.integers(0, 5), min_size=1, max_size=9).map(lambda layers: Chain(tuple(layers), 6))
numbers = (st.sampled_from([0.0, 1.0]), st.floats(-9, 9, width=32), *[st.integers(1, 200)] * 4)
trials, bases = st.builds(Trial, chains, *numbers), st.builds(Trial, st.just(Chain.base(6)), *numbers)
improvements = st.lists(st.tuples(chains, st.integers(1, 99))).map(tuple)
lucks = st.builds(Luck, st.integers(0, 3), improvements)
labels = st.builds(
    Label,
    st.just("arc_easy"),
    st.just("test"),
    st.text(min_size=1),
    st.tuples(bases, st.lists(trials, max_size=5)).map(lambda found: (found[0], *found[1])),
    st.none() | lucks,
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
    order = [label.key for label in found][::-1]
    store.compact(order)
    assert LabelStore.open(store.folder).read() == found[::-1]


def test_store_is_read_by_other_tools(tmp_path: Path) -> None:
    LabelStore.create(tmp_path, MANIFEST).append([label("a", 1, 1, 0, 0)])
    rows = datasets.load_dataset("parquet", data_files=str(tmp_path / "*.parquet"), cache_dir=str(tmp_path / "c"))
    assert [(row["id"], row["chain"], row["depth"], row["reward"]) for row in rows["train"]] == [
        ("a", "0-5", 6, 1.0),
        ("a", "0-3 5", 5, 1.0),
        ("a", "0 (1)x2 2-5", 7, 0.0),
        ("a", "0-2", 3, 0.0),
    ]


def test_compacting_joins_files_in_order_and_keeps_each_label_once(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path, MANIFEST)
    for name in ("c", "a", "b"):
        store.append([label(name, 1)])
    store.append([label("a", 1)])  # as after a crash between joining and deleting
    store.compact(["arc_easy/test/a", "arc_easy/test/b", "arc_easy/test/c"])
    assert [found.id for found in store.read()] == ["a", "b", "c"]
    assert [path.name[:7] for path in tmp_path.glob("*.parquet")] == ["scores-"]


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("model", "fingerprint", "beef"),
        ("plan", "space", SearchSpace(max_block=2)),
        ("plan", "seed", 1),
        ("source", "task", "piqa"),
        ("plan", "luck", False),
    ],
)
def test_other_settings_are_refused_and_nothing_changes(tmp_path: Path, part: str, name: str, value: object) -> None:
    store = LabelStore.create(tmp_path, MANIFEST)
    store.append([label("a", 1)])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    changed = dataclasses.replace(getattr(MANIFEST, part), **{name: value})
    with pytest.raises(UserError, match=rf"made with {part}\.{name}\S* .* not"):
        LabelStore.create(tmp_path, dataclasses.replace(MANIFEST, **{part: changed}))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damage_is_named(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path, MANIFEST)
    store.append([label("a", 1)])
    [file] = store.files()
    file.write_bytes(file.read_bytes()[:-9])
    for read in (store.read, store.keys, lambda: store.compact([])):
        with pytest.raises(UserError, match=r"part-0000001-\w{16}.parquet cannot be read .* delete it"):
            read()
    assert store.files() == [file]
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        LabelStore.open(tmp_path)
    with pytest.raises(UserError, match="is not a label store"):
        LabelStore.open(tmp_path / "nowhere")


def test_stores_of_another_format_are_refused(tmp_path: Path) -> None:
    file = LabelStore.create(tmp_path, MANIFEST).folder / "manifest.json"
    write_json(file, {**read_json(file), "format": 1})
    with pytest.raises(UserError, match=f"has format 1; this version of cola-learn reads format {FORMAT}"):
        LabelStore.open(tmp_path)


def test_a_full_disk_leaves_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LabelStore.create(tmp_path, MANIFEST)
    store.append([label("a", 1)])

    def full(file: Path, content: object) -> None:
        file.write_text("PAR1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"part-0000002-\w{16}.parquet cannot be written: No space left on device"):
        store.append([label("b", 1)])
    with pytest.raises(UserError, match="No space left"):
        store.compact([])
    assert [found.id for found in LabelStore.open(tmp_path).read()] == ["a"]
    assert not list(tmp_path.glob(".*.tmp"))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_compacting_can_be_killed_anywhere(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever file operation is the last, every label is still there once, and the next try finishes the work."""
    folder = tmp_path_factory.mktemp("store")
    names = [str(number) for number in range(7)]
    order = [f"arc_easy/test/{name}" for name in data.draw(st.permutations(names))]
    store = LabelStore.create(folder, MANIFEST)
    for part in ("012", "34", "56"):
        store.append([label(name, 1) for name in part])
    for _ in range(data.draw(st.integers(1, 3))):
        left = data.draw(st.integers(0, 14))

        def dying(operation: Callable[..., None]) -> Callable[..., None]:
            def run(*arguments: Any, **keywords: Any) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                operation(*arguments, **keywords)

            return run

        with pytest.MonkeyPatch.context() as dangerous, contextlib.suppress(Killed):
            dangerous.setattr(os, "replace", dying(os.replace))
            dangerous.setattr(Path, "unlink", dying(Path.unlink))
            LabelStore.open(folder).compact(order)
        assert sorted(found.id for found in LabelStore.open(folder).read()) == names
    LabelStore.open(folder).compact(order)
    store = LabelStore.open(folder)
    assert [found.key for found in store.read()] == order
    assert [file.name[:7] for file in store.files()] == ["scores-"]


def test_reading_while_files_are_joined_gives_every_label_once(tmp_path: Path) -> None:
    """A reader that is half through when another process joins the files."""
    store = LabelStore.create(tmp_path, MANIFEST)
    for name in "abcdef":
        store.append([label(name, 1)])
    reader = iter(LabelStore.open(tmp_path))
    found = [next(reader).id, next(reader).id]
    store.compact([])
    found += [one.id for one in reader]
    assert sorted(found) == list("abcdef")


def test_a_file_that_is_not_what_was_written_is_refused(tmp_path: Path) -> None:
    """Another store's file under this one's name: whole, and readable."""
    store = LabelStore.create(tmp_path / "one", MANIFEST)
    store.append([label("a", 1)])
    other = LabelStore.create(tmp_path / "other", MANIFEST)
    other.append([label("a", 0)])
    store.files()[0].write_bytes(other.files()[0].read_bytes())
    with pytest.raises(UserError, match="its SHA-256 is not that in its name"):
        store.read()


class Killed(BaseException):
    """As a kill -9: nothing gets to clean up."""


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


def test_datasets_reads_a_store_beside_what_wandb_leaves_there(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path / "labels", MANIFEST)
    store.append([label("a", 1, 0), label("b", 0, 1)])
    store.compact(["a", "b"])
    for name in ("wandb/offline-run-1/files/config.json", "wandb/offline-run-1/files/media/table/examples.table.json"):
        (store.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (store.folder / name).write_text('{"columns": ["x"], "data": [[1]]}')
    rows = datasets.load_dataset(str(store.folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"][:] == ["a", "a", "b", "b"]
    assert rows["chain"][:] == ["0-5", "0-3 5"] * 2
