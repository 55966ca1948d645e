"""Capabilities are tried once for a model, a processor and its libraries, and remembered; losing them loses nothing.

That they are right is tested through the whole model in test_executor.py."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.recording import Batch
from cola_learn.backbone.rows import Row
from cola_learn.files import read_json, write_json
from tests.conftest import WordTokenizer, tiny_llama


def load() -> Backbone:
    return Backbone(tiny_llama(), WordTokenizer(), "tiny")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLA_LEARN_CACHE", str(tmp_path))
    return tmp_path / "capabilities"


def test_what_was_tried_is_remembered(folder: Path) -> None:
    first = load()
    assert first.capabilities.exact
    (file,) = folder.iterdir()
    stored = read_json(file)
    assert stored["capabilities"] == json.loads(json.dumps(asdict(first.capabilities)))
    assert load().capabilities == first.capabilities
    write_json(file, {**stored, "capabilities": {**stored["capabilities"], "call_sizes": [16, 128]}})
    assert load().capabilities == replace(first.capabilities, call_sizes=(16, 128))
    assert load().call_tokens == 128


def test_other_circumstances_are_tried_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    monkeypatch.setenv("ONEDNN_VERBOSE", "0")
    load()
    Backbone(tiny_llama(4), WordTokenizer(), "shallow")
    Backbone(tiny_llama().to(torch.bfloat16), WordTokenizer(), "tiny")
    assert len(list(folder.iterdir())) == 4


def test_threads_agree_only_where_they_do_at_odd_lengths(folder: Path) -> None:
    """With a head dimension of 8, torch's attention differs in the last bit between one thread and two, where rows
    are of an odd number of tokens."""
    backbone = load()

    def through(length: int, threads: int) -> torch.Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            [tokens] = backbone.probe_tokens(1, length).tolist()
            recording = backbone.record(Row.plain(tokens))
            assert backbone.capabilities.packing is not None
            return backbone.run_layer(0, recording.hidden, Batch([recording], backbone.capabilities.packing))
        finally:
            torch.set_num_threads(before)

    if backbone.capabilities.threads_agree:
        for length in range(3, 64):
            assert torch.equal(through(length, 1), through(length, torch.get_num_threads())), length


@pytest.mark.parametrize("sizes", [[7], [128, 16]])
def test_sizes_that_were_never_tried_are_not_believed(folder: Path, sizes: list[int]) -> None:
    first = load()
    (file,) = folder.iterdir()
    stored = read_json(file)
    write_json(file, {**stored, "capabilities": {**stored["capabilities"], "call_sizes": sizes}})
    assert load().capabilities == first.capabilities


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"capabilities": {"packing": [1]}}', '{"capabilities": {"call_sizes": 8}}']
)
def test_a_damaged_file_is_made_again(folder: Path, damage: str) -> None:
    first = load()
    (file,) = folder.iterdir()
    whole = file.read_text()
    file.write_text(damage)
    assert load().capabilities.call_sizes == first.capabilities.call_sizes
    assert file.read_text() == whole


def test_a_cache_that_cannot_be_written_costs_only_time(folder: Path) -> None:
    folder.write_text("in the way")
    assert load().capabilities.exact
