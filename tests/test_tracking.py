"""What the stages log can be read back from an offline run, and secrets are not in it."""

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from cola_learn.tracking import Tracker, resolve_mode

BLOCK, HEADER = 32 * 1024, struct.Struct("<IHB")


def stored_records(file: Path) -> Iterator[bytes]:
    """Records of a .wandb file: LevelDB's log format, with 7 bytes of its own at the beginning."""
    data, place, parts = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + HEADER.size <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER.size:
            place += left
            continue
        _, length, kind = HEADER.unpack_from(data, place)
        place += HEADER.size
        parts += data[place : place + length]
        place += length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def finished_run(file: Path) -> list[wandb_internal_pb2.Record]:
    """All records up to the exit: W&B's own process may write the last ones a moment after a run is finished."""
    for _ in range(300):
        records = [wandb_internal_pb2.Record.FromString(data) for data in stored_records(file)]
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{file} has no exit")


def read_back(folder: Path) -> dict[str, Any]:
    """Metrics, configuration, summary and files of the one offline run under a folder."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    found: dict[str, Any] = {"metrics": {}, "config": {}, "summary": {}, "artifacts": []}
    for record in finished_run(file):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            for item in record.history.item:
                found["metrics"].setdefault(item.key or ".".join(item.nested_key), []).append(item.value_json)
        elif kind == "run":
            found["config"] |= {item.key: item.value_json for item in record.run.config.update}
        elif kind == "summary":
            found["summary"] |= {
                item.key or ".".join(item.nested_key): item.value_json for item in record.summary.update
            }
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            found["artifacts"].append(record.request.log_artifact.artifact.name)
        elif kind == "artifact":
            found["artifacts"].append(record.artifact.name)
    return found


def test_an_offline_run_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")
    (tmp_path / "note.json").write_text("{}")
    with Tracker("label", "offline", tmp_path, {"limit": 7, "output": tmp_path}) as tracker:
        tracker.log({"found/corrected": 0.5})
        tracker.log({"found/corrected": 0.75})
        tracker.table("examples", ("id", "chain"), [("q1", "0-29")])
        tracker.histogram("depth", [20, 24, 24])
        tracker.curves(
            "found_so_far", "simulations", [{"corrected": 0.0, "luck": 0.0}, {"corrected": 0.5, "luck": 0.25}]
        )
        tracker.bars("layers/skip_rate", "layer", {"0": 0.0, "1": 0.5})
        tracker.summary({"base_accuracy": 0.25})
        tracker.artifact("labels", "label-store", [tmp_path / "note.json"])
    found = read_back(tmp_path)
    assert found["metrics"]["found/corrected"] == ["0.5", "0.75"]
    for name in ("examples", "found_so_far", "layers/skip_rate", "depth"):
        assert any(metric.startswith(name) for metric in found["metrics"]), name
    assert found["config"]["limit"] == "7"
    assert found["summary"]["base_accuracy"] == "0.25"
    assert "labels" in found["artifacts"]
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"0123456789abcdef" not in file.read_bytes(), file


def test_disabled_tracking_writes_nothing(tmp_path: Path) -> None:
    with Tracker("label", "disabled", tmp_path, {}) as tracker:
        tracker.log({"a": 1})
        assert tracker.lightning_logger() is None
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_auto_goes_online_only_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert resolve_mode("auto") == "online"
    assert resolve_mode("disabled") == "disabled"
