"""Reading rows: files in any of the usual forms, folders that ``datasets`` saved, and datasets on the hub.

JSON and CSV are read by Python's own readers: those of ``datasets`` make dates of texts such as ``2020-01-01`` and 1.0
of 1 where a list holds 2.5 too, and shift or drop rows that have more fields than the header.
"""

import csv
import io
import json
import lzma
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cola_learn.errors import UserError, first_line

Row = Mapping[str, Any]
HUB = "hub:"
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
KNOWN = "a .jsonl, .json, .csv, .tsv or .parquet file (.gz, .bz2, .xz and .zst too), a folder that datasets saved"


def is_file(task: str) -> bool:
    """Whether a task is named as a file, a folder or a dataset on the hub, not as a benchmark."""
    return task.startswith(HUB) or Path(task).exists() or _format(Path(task)) is not None


def stem(task: str) -> str:
    """What a file, folder or dataset on the hub is called in the names of its questions."""
    name = task.removeprefix(HUB).replace(":", "-") if task.startswith(HUB) else task
    last = Path(name).name
    for ending in (*COMPRESSED, *FORMATS):
        last = last.removesuffix(ending)
    return last


def read_rows(task: str, split: str, revision: str = "") -> tuple[list[Row], str, str]:
    """The rows of a file, a saved folder or, of a dataset on the hub, of one split.

    Args:
        task: a path, or ``hub:ORG/NAME`` or ``hub:ORG/NAME:CONFIG``.
        split: of a dataset on the hub, or of a folder of several splits.
        revision: of a dataset on the hub; "" is the newest.

    Returns:
        The rows; the split, ``file`` where there are none; and the commit of a dataset on the hub, else "".

    Raises:
        UserError: if it cannot be read, naming the line where there is one.
    """
    if task.startswith(HUB):
        rows, commit = hub_rows(*_hub_name(task), split, revision or None)
        return rows, split, commit
    path = Path(task)
    try:
        if path.is_dir():
            return *_saved_rows(path, split), ""
        kind = _format(path)
        if kind is None:
            raise UserError(f"task {task} is of no known kind; give {KNOWN}, or hub:ORG/NAME")
        if not path.is_file():
            raise UserError(f"task {task} is not there; give {KNOWN}, or hub:ORG/NAME")
        readers = {"json": _json_rows, "jsonl": _json_lines, "parquet": _parquet_rows}
        rows = list(readers.get(kind, _separated_rows)(path))
    except (OSError, ValueError, EOFError, RecursionError, ImportError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"task {task} cannot be read: {_reason(error)}") from None
    return [_clean(row) for row in rows], "file", ""


def hub_rows(path: str, configuration: str | None, split: str, revision: str | None = None) -> tuple[list[Row], str]:
    """The rows of a split of a dataset on the hub, and the commit that they are of. No code of the dataset is run.

    Args:
        path: ``ORG/NAME``, or a local folder of the same files.
        configuration: None is the only one.
        split: its name.
        revision: branch, tag or commit; None is the newest.

    Raises:
        UserError: if it cannot be loaded.
    """
    table, commit = hub_table(path, configuration, split, revision=revision)
    return _rows_of(table), commit


def hub_table(
    path: str,
    configuration: str | None,
    split: str,
    columns: Sequence[str] | None = None,
    revision: str | None = None,
) -> tuple[Any, str]:
    """``hub_rows`` as a ``datasets.Dataset``, with all columns or some.

    Raises:
        UserError: if it cannot be loaded.
    """
    import datasets
    from huggingface_hub import HfApi

    datasets.disable_progress_bars()
    try:
        commit = revision or ""
        if not Path(path).exists():
            commit = HfApi().dataset_info(path, revision=revision).sha or commit
        table = datasets.load_dataset(path, configuration, split=split, revision=commit or None)
        return (table if columns is None else table.select_columns(list(columns))), commit
    except Exception as error:
        raise UserError(f"task {HUB}{path} split {split} could not be loaded: {_reason(error)}") from None


def _hub_name(task: str) -> tuple[str, str | None]:
    path, _, configuration = task.removeprefix(HUB).partition(":")
    if path.count("/") != 1 or not all(path.split("/")):
        raise UserError(f"task {task} names no dataset; write hub:ORG/NAME or hub:ORG/NAME:CONFIG")
    return path, configuration or None


def _format(path: Path) -> str | None:
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return FORMATS.get(Path(name).suffix)


def _saved_rows(folder: Path, split: str) -> tuple[list[Row], str]:
    import datasets

    datasets.disable_progress_bars()
    if not any((folder / name).exists() for name in ("dataset_info.json", "dataset_dict.json")):
        raise UserError(f"task {folder} is a folder that datasets did not save; give {KNOWN}")
    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise UserError(f"task {folder} cannot be read: {_reason(error)}") from None
    if not isinstance(saved, datasets.DatasetDict):
        return _rows_of(saved), "file"
    if split not in saved:
        raise UserError(f"split {split} is not in {folder}; choose {', '.join(saved)}")
    return _rows_of(saved[split]), split


def _clean(value: Any) -> Any:
    """A value with None where a number is NaN, which is how pandas writes that there is nothing."""
    if isinstance(value, Mapping):
        return {name: _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def _rows_of(table: Any) -> list[Row]:
    """The rows of a ``datasets.Dataset``, with the names of classes for their numbers."""
    named = {
        name: feature
        for name, feature in table.features.items()
        if hasattr(feature, "int2str") and not all(str(one).isdigit() for one in feature.names)
    }

    def name_of(column: str, value: Any) -> Any:
        known = column in named and value is not None and 0 <= value < len(named[column].names)
        return named[column].int2str(value) if known else _clean(value)

    return [{column: name_of(column, value) for column, value in row.items()} for row in table]


def _opened(path: Path, newline: str | None = None) -> Any:
    import fsspec

    return fsspec.open(str(path), "rt", encoding="utf-8-sig", compression="infer", newline=newline)


def _json_lines(path: Path) -> Iterator[Any]:
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UserError(f"task {path} line {number} is not JSON: {_reason(error)}") from None


def _json_rows(path: Path) -> list[Any]:
    with _opened(path) as file:
        try:
            content = json.load(file)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            return list(_json_lines(path))
    if isinstance(content, dict):
        lists = {name: value for name, value in content.items() if isinstance(value, list)}
        tables = [value for value in lists.values() if value and all(isinstance(row, dict) for row in value)]
        if len(tables) == 1:
            content = tables[0]
        elif len(lists) == len(content) and len({len(value) for value in lists.values()}) == 1:  # a list a column
            content = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
        elif "question" in content:
            content = [content]
        else:
            raise UserError(f"task {path}: an object with {', '.join(map(str, content))}; give a list of rows")
    if not isinstance(content, list):
        raise UserError(f"task {path} holds a {type(content).__name__}; give a list of rows")
    return content


def _separated_rows(path: Path) -> list[Row]:
    """The rows of a CSV or TSV file: texts, every row with the fields of the header.

    TSV is written with quotes around fields or without. It is read as quoted where all its quotes are in order and no
    field holds a tab or a line end, else as it stands.
    """
    with _opened(path, newline="") as file:
        content = file.read()
    if _format(path) == "csv":
        return _table(path, _fields(path, content, ","))
    try:
        rows = _table(path, _fields(path, content, "\t"))
        if not any(mark in str(text) for row in rows for text in row.values() for mark in "\t\r\n"):
            return rows
    except UserError:
        pass
    lines = enumerate(content.replace("\r\n", "\n").split("\n"), start=1)
    return _table(path, [(number, line.split("\t")) for number, line in lines if line.strip()])


def _fields(path: Path, content: str, separator: str) -> list[tuple[int, list[str]]]:
    csv.field_size_limit(2**30)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    found, line = [], 1
    try:
        for fields in reader:
            if fields:
                found.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"task {path} line {line} cannot be read ({error}); a field with a quote in it is quoted whole, and its "
            "quotes doubled"
        ) from None
    return found


def _table(path: Path, rows: Sequence[tuple[int, list[str]]]) -> list[Row]:
    if not rows:
        raise UserError(f"task {path} is empty; it needs a line of column names and at least one row")
    (_, names), *others = rows
    names = ["Unnamed: 0" if place == 0 and not name.strip() else name for place, name in enumerate(names)]
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise UserError(f"task {path}: columns {names} need names that differ")
    for line, fields in others:
        if len(fields) != len(names):
            raise UserError(
                f"task {path} line {line}: has {len(fields)} fields under {len(names)} column names; a field with a "
                "separator or a line end in it has to be quoted"
            )
    return [dict(zip(names, fields, strict=True)) for _, fields in others]


def _parquet_rows(path: Path) -> list[Row]:
    import datasets

    datasets.disable_progress_bars()
    _check_rows(path)
    with tempfile.TemporaryDirectory() as cache:
        try:
            options = {"data_files": str(path), "split": "train", "cache_dir": cache, "keep_in_memory": True}
            return _rows_of(datasets.load_dataset("parquet", **options))
        except Exception as error:
            raise UserError(f"task {path} cannot be read: {_reason(error)}") from None


def _check_rows(path: Path) -> None:
    """Refuse a Parquet file of a few bytes that claims more rows than memory holds; a question takes some bytes."""
    import pyarrow.parquet

    if not path.name.endswith(".parquet"):  # a compressed one
        return
    try:
        rows, size = pyarrow.parquet.ParquetFile(path).metadata.num_rows, path.stat().st_size
    except Exception as error:
        raise UserError(f"task {path} cannot be read: {_reason(error)}") from None
    if rows > size:
        raise UserError(f"task {path} claims {rows:,} rows in {size:,} bytes; such a file holds no questions")


def _reason(error: BaseException) -> str:
    """The first line of what is at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
