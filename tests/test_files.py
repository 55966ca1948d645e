"""Files are written whole or not at all and known to be what was written; a folder belongs to one writer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.errors import UserError
from cola_learn.files import (
    as_value,
    check_seal,
    digests,
    locked,
    read_json,
    replacing,
    seal_of,
    sealing,
    set_aside,
    sha256,
    write_json,
    write_text,
)
from cola_learn.stats import Interval

values = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])).filter(lambda name: name != "sha256"),
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
)


@given(values)
def test_json_round_trips(tmp_path_factory: pytest.TempPathFactory, found: dict[str, object]) -> None:
    file = tmp_path_factory.mktemp("json") / "values.json"
    write_json(file, found)
    assert read_json(file) == found


def test_json_that_was_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    write_json(file, {"a": 1})
    file.write_text(file.read_text().replace('"a": 1', '"a": 2'))
    with pytest.raises(ValueError, match="it is damaged"):
        read_json(file)
    with pytest.raises(ValueError, match="or was edited: then remove its sha256"):
        read_json(file, edited=True)
    file.write_text(json.dumps({"a": 2}))
    assert read_json(file, edited=True) == {"a": 2}
    with pytest.raises(ValueError, match="it is damaged"):
        read_json(file)


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_text(file, "before")

    def fail() -> None:
        with replacing(file) as scratch:
            scratch.write_text("after")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("target", ["folder", "file/below"])
def test_targets_that_cannot_be_written_are_named(target: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"{target} cannot be written: "):
        write_text(tmp_path / target, "text")


def test_seals(tmp_path: Path) -> None:
    """In the form of ``sha256sum``; whoever is killed between file and seal leaves a file without one."""
    file = tmp_path / "file.bin"
    with sealing(file) as scratch:
        scratch.write_bytes(b"content")
    check_seal(file, required=True)
    subprocess.run(["sha256sum", "--check", "--quiet", seal_of(file).name], cwd=tmp_path, check=True)
    file.write_bytes(b"contents")
    with pytest.raises(ValueError, match=r"is not that of file\.bin\.sha256"):
        check_seal(file)
    seal_of(file).unlink()
    check_seal(file)
    with pytest.raises(ValueError, match="is missing"):
        check_seal(file, required=True)
    assert set_aside(file).read_bytes() == b"contents"
    assert not file.exists()


HOLDER = """
import sys
from pathlib import Path
from cola_learn.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_process_and_let_go_by_a_killed_one(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="is being written by another run"), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path), pytest.raises(UserError, match="is being written by another run"), locked(tmp_path):
        pass


def test_digests_are_remembered_by_size_and_time(tmp_path: Path) -> None:
    file, memory = tmp_path / "file", tmp_path / "cache" / "digests.json"
    file.write_bytes(b"one")
    first = digests([file], memory)
    assert first == {file: sha256(file)}
    remembered = memory.read_bytes()
    assert digests([file], memory) == first
    assert memory.read_bytes() == remembered
    file.write_bytes(b"other")
    assert digests([file], memory) == {file: sha256(file)} != first
    memory.write_text("damaged")
    assert digests([file], memory) == {file: sha256(file)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": 0.0, "low": 0.0}, "high: Field required"),
        ({"mean": "0", "low": 0.0, "high": 0.0}, "mean: Input should be a valid number, not '0'"),
        ({"mean": 0.0, "low": 0.0, "high": 0.0, "more": 1}, "more: Unexpected keyword argument, not '1'"),
    ],
)
def test_values_name_the_field_that_does_not_fit(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_value(Interval, given)
