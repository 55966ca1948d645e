"""What the stages log can be read back from an offline run, and secrets are not in it."""

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from cola_learn.assets import download
from cola_learn.errors import UserError
from cola_learn.tracking import Artifact, Tracker, Wandb, artifact_name, resolve_mode

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


def read_back(folder: Path, stage: str = "") -> dict[str, Any]:
    """Metrics, configuration, summary and files of the one offline run under a folder, or the last one of a stage."""
    files = folder.glob("wandb/offline-run-*/run-*.wandb")  # whose names tell the second at which they began, no more
    runs = [_read_back(file) for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]
    if stage:
        return [run for run in runs if run["job_type"] == stage][-1]
    (found,) = runs
    return found


def _read_back(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"metrics": {}, "config": {}, "summary": {}, "inputs": {}, "outputs": {}}
    for record in finished_run(file):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            for item in record.history.item:
                found["metrics"].setdefault(item.key or ".".join(item.nested_key), []).append(item.value_json)
        elif kind == "run":
            found["config"] |= {item.key: item.value_json for item in record.run.config.update}
            for name in ("job_type", "run_id", "project", "entity", "run_group", "display_name", "notes"):
                found[name] = getattr(record.run, name) or found.get(name, "")
            found["tags"] = list(record.run.tags) or found.get("tags", [])
        elif kind == "summary":
            found["summary"] |= {
                item.key or ".".join(item.nested_key): item.value_json for item in record.summary.update
            }
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            artifact = record.request.log_artifact.artifact
            found["inputs" if artifact.use_after_commit else "outputs"][artifact.name] = artifact.digest
        elif kind == "artifact":
            found["inputs" if record.artifact.use_after_commit else "outputs"][record.artifact.name] = (
                record.artifact.digest
            )
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
        tracker.output(Artifact("labels", "labels", [tmp_path / "note.json"], {"seed": 0}))
    found = read_back(tmp_path)
    assert found["metrics"]["found/corrected"] == ["0.5", "0.75"]
    for name in ("examples", "found_so_far", "layers/skip_rate", "depth"):
        assert any(metric.startswith(name) for metric in found["metrics"]), name
    assert found["config"]["limit"] == "7"
    assert found["summary"]["base_accuracy"] == "0.25"
    assert "labels" in found["outputs"]
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"0123456789abcdef" not in file.read_bytes(), file


def test_disabled_tracking_writes_nothing(tmp_path: Path) -> None:
    with Tracker("label", "disabled", tmp_path, {}) as tracker:
        tracker.log({"a": 1})
        assert tracker.lightning_logger() is None
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_the_environment_and_a_login_are_heeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    login = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(login))
    assert resolve_mode("auto") == "offline"
    login.write_text("machine api.wandb.ai login user password secret\n")
    login.chmod(0o600)
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")  # another server, where nobody has logged in
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert resolve_mode("auto") == "online"
    for given, meant in (("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled")):
        monkeypatch.setenv("WANDB_MODE", given)
        assert resolve_mode("auto") == meant
    assert resolve_mode("online") == "online"


def test_a_run_is_named_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    asked = Wandb(entity="team", group="all", name="first", tags=["a", "b"], notes="why")
    with Tracker("label", "offline", tmp_path / "one", {}, asked):
        pass
    found = read_back(tmp_path / "one")
    expected = {"project": "theirs", "entity": "team", "run_group": "all", "display_name": "first", "notes": "why"}
    assert {name: found[name] for name in expected} == expected
    assert found["tags"] == ["a", "b"]
    with Tracker("label", "offline", tmp_path / "two", {}, Wandb(project="mine")):
        pass
    assert read_back(tmp_path / "two")["project"] == "mine"


def test_an_interrupted_stage_goes_on_in_its_own_run(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Tracker("label", "offline", tmp_path, {}) as tracker:
            names.append(tracker.run.id)
            raise KeyboardInterrupt

    names: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with Tracker("label", "offline", tmp_path, {}) as tracker:
        names.append(tracker.run.id)
    with Tracker("label", "offline", tmp_path, {}) as tracker:  # what ended well is not gone on with
        names.append(tracker.run.id)
    assert names[0] == names[1] != names[2]


def test_what_one_stage_made_is_known_again_where_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text("{}")
    for folder, verb in (("made", "output"), ("read", "input")):
        with Tracker("label", "offline", tmp_path / folder, {}) as tracker:
            getattr(tracker, verb)(Artifact("labels-mine", "labels", [tmp_path / "note.json"]))
    made, read = (read_back(tmp_path / folder) for folder in ("made", "read"))
    assert made["outputs"] == read["inputs"] != {}
    assert made["inputs"] == read["outputs"] == {}


def test_names_hold_no_path() -> None:
    assert artifact_name("labels", "arc_easy", "Qwen/Qwen3-0.6B") == "labels-arc_easy-Qwen3-0.6B"
    assert artifact_name("labels", "hub:ORG/NAME", "/home/me/my model/") == "labels-NAME-my-model"


def test_artifacts_that_cannot_be_fetched_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert download(tmp_path) == tmp_path
    with pytest.raises(UserError, match="wandb:mine names no artifact; write wandb:ENTITY/PROJECT/NAME:ALIAS"):
        download(Path("wandb:mine"))
    monkeypatch.setattr("cola_learn.tracking._SECONDS_TO_CONNECT", 2)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with pytest.raises(UserError, match="wandb:me/mine/labels:v0 cannot be fetched from W&B"):
        download(Path("wandb:me/mine/labels:v0"))
