"""Atomic writes, checksums of what was written, and locks on folders."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from cola_learn.errors import UserError

Value = TypeVar("Value")
_DIGEST = "sha256"  # key of a JSON file's own digest, and the end of the name of another file's


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to, which takes its place when the block ends without an error.

    Raises:
        UserError: if it cannot be written; ``target`` is then what it was.
    """
    scratch = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            os.replace(scratch, target)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; it is read again before it takes its place.

    Raises:
        UserError: if it cannot be written.
    """
    with replacing(path) as scratch:
        scratch.write_bytes(content)
        if scratch.read_bytes() != content:
            raise OSError("it does not read back as it was written")


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` of a text.

    Raises:
        UserError: if it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object with its own SHA-256 in it, for ``read_json``.

    Raises:
        UserError: if it cannot be written.
    """
    values = json.loads(json.dumps(values, default=str))
    write_text(path, json.dumps({**values, _DIGEST: _digest_of(values)}, indent=2) + "\n")


def read_json(path: Path, edited: bool = False) -> dict[str, Any]:
    """The object that ``write_json`` wrote. One that people may have ``edited`` may have lost its digest.

    Raises:
        OSError, ValueError: if it cannot be read, or has been changed.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError(f"it holds a {type(values).__name__}, not an object")
    found = values.pop(_DIGEST, None)
    if found != _digest_of(values) and not (edited and found is None):
        raise ValueError(f"it is damaged{f', or was edited: then remove its {_DIGEST}' if edited else ''}")
    return values


def as_value(kind: type[Value], values: Mapping[str, Any]) -> Value:
    """A frozen dataclass of what a JSON file holds, every field checked for its type, none unknown.

    Raises:
        ValueError: naming the first field that does not fit.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        given = "" if first["type"] in ("missing", "dataclass_type") else f", not {str(first['input'])[:80]!r}"
        raise ValueError(f"{place}: {first['msg']}{given}" if place else first["msg"]) from None


def _digest_of(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(files: Iterable[Path], memory: Path) -> dict[Path, str]:
    """SHA-256 of each file, remembered in the file ``memory`` by place, size and times; that of the last change of the
    file itself, which nobody can set, among them.

    Raises:
        OSError: if one cannot be read.
    """
    try:
        known = read_json(memory)
    except (OSError, ValueError):
        known = {}
    found, fresh = {}, False
    for file in files:
        status = file.stat()
        name, now = str(file.resolve()), [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        entry = known.get(name)
        if not isinstance(entry, list) or len(entry) != 4 or entry[:3] != now:
            known[name] = entry = [*now, sha256(file)]
            fresh = True
        found[file] = str(entry[3])
    if fresh:
        with suppress(UserError):  # a cache that cannot be written: computed again next time
            write_json(memory, {name: entry for name, entry in known.items() if Path(name).exists()})
    return found


@contextmanager
def sealing(target: Path) -> Iterator[Path]:
    """``replacing``, with the SHA-256 of what was written in a file beside it, for ``check_seal``."""
    with replacing(target) as scratch:
        yield scratch
        found = sha256(scratch)
        seal_of(target).unlink(missing_ok=True)  # whoever is killed from here on leaves a file without one
    write_text(seal_of(target), f"{found}  {target.name}\n")


def check_seal(path: Path, required: bool = False) -> None:
    """Compare a file with the SHA-256 beside it; one that has none passes unless it is ``required``.

    Raises:
        OSError, ValueError: if the file is missing or not what was written.
    """
    seal = seal_of(path)
    if not seal.exists():
        if required:
            raise ValueError(f"{seal.name} is missing")
    elif seal.read_bytes().split()[:1] != [sha256(path).encode()]:
        raise ValueError(f"its SHA-256 is not that of {seal.name}")


def seal_of(path: Path) -> Path:
    """Where the SHA-256 of a file is."""
    return path.with_name(f"{path.name}.{_DIGEST}")


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that nothing reads it again and nothing is lost; returns where it is."""
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    seal_of(path).unlink(missing_ok=True)
    return aside


@contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Hold a folder, or what in it has a lock of this name, for writing, against other processes.

    Raises:
        UserError: if another process holds it, or it cannot be written.
    """
    lock = FileLock(folder / name, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"--output {folder} is being written by another run; wait or name another") from None
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}; name another folder") from None
    try:
        yield
    finally:
        lock.release()


def writable_folder(folder: Path) -> Path:
    """Create ``folder`` if need be.

    Raises:
        UserError: if it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}; name another folder") from None
    return folder


def digest(settings: Mapping[str, Any], *files: Path) -> str:
    """A name for finished work: hex digits that change with the settings and with what is in the files."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()[:16]
