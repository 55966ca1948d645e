"""Labels as Arrow tables, a row for every question and chain, and as Parquet files with checksums in their names."""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cola_learn.chains import Chain
from cola_learn.errors import UserError, first_line
from cola_learn.files import write_bytes
from cola_learn.label.records import Label, Luck, Trial
from cola_learn.tasks.questions import Question

QUESTIONS = "questions.parquet"
"""The file of a store's questions; its other Parquet files hold labels."""
KEY = ("task", "split", "id")
_DIGITS = 16  # of a file's SHA-256, at the end of its name
_ROWS = 8192  # that are Python objects at a time
_OF_TRIAL = {
    "reward": pyarrow.float64(),
    "margin": pyarrow.float64(),
    "visits": pyarrow.int32(),
    "simulation": pyarrow.int32(),
    "neighbours": pyarrow.int32(),
    "neighbours_good": pyarrow.int32(),
    "scores": pyarrow.list_(pyarrow.float32()),
}
SCHEMA = pyarrow.schema(
    {
        **dict.fromkeys((*KEY, "digest"), pyarrow.string()),
        "target": pyarrow.string(),  # gold, or luck: a find of the control, which searched for the option decoy
        "decoy": pyarrow.int32(),
        "chain": pyarrow.string(),
        "depth": pyarrow.int32(),
        **_OF_TRIAL,
    }
)


def label_files(folder: Path) -> list[Path]:
    """The files of labels in a folder, in order."""
    return sorted(file for file in folder.glob("*.parquet") if file.name != QUESTIONS)


def write_table(folder: Path, name: str, table: pyarrow.Table) -> Path:
    """Write ``NAME-DIGEST.parquet``, whose name ends with the first digits of its SHA-256.

    Raises:
        UserError: if it cannot be written; what was there before is left as it was.
    """
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
    content = sink.getvalue()
    file = folder / f"{name}-{hashlib.sha256(content).hexdigest()[:_DIGITS]}.parquet"
    write_bytes(file, content.to_pybytes())
    return file


def read_table(file: Path, columns: Sequence[str] = SCHEMA.names) -> pyarrow.Table:
    """The rows of a file, or some columns of them.

    Raises:
        FileNotFoundError: if it is not there (any more).
        UserError: if it cannot be read, or is not what was written.
    """
    try:
        content = file.read_bytes()
        named = re.fullmatch(rf".+-([0-9a-f]{{{_DIGITS}}})", file.stem)
        if not named:
            raise ValueError(f"its name does not end in the first {_DIGITS} digits of its SHA-256, as it was written")
        if hashlib.sha256(content).hexdigest()[:_DIGITS] != named[1]:
            raise ValueError("its SHA-256 is not that in its name")
        parquet = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content), page_checksum_verification=True)
        if parquet.metadata.num_rows > 64 * len(content):
            raise ValueError(f"{parquet.metadata.num_rows:,} rows in {len(content):,} bytes")
        wanted = pyarrow.schema([SCHEMA.field(name) for name in columns])
        return parquet.read(columns=list(columns)).select(list(columns)).cast(wanted)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
        raise unreadable(file, error) from None


def write_questions(file: Path, questions: Iterable[Question]) -> None:
    """Write questions, a row each; conversations are texts by now.

    Raises:
        UserError: if it cannot be written.
    """
    sink = pyarrow.BufferOutputStream()
    rows = [{name: value for name, value in asdict(one).items() if name != "chat"} for one in questions]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_bytes(file, sink.getvalue().to_pybytes())


def read_questions(file: Path) -> dict[str, Question]:
    """Questions by key; none where there is no such file.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        rows = pyarrow.parquet.read_table(file, page_checksum_verification=True).to_pylist() if file.exists() else []
        questions = [Question(**row | {"choices": tuple(row["choices"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(
            f"{file} cannot be read ({first_line(error)}); delete it, and the questions are read from their task again"
        ) from None
    return {question.key: question for question in questions}


def unreadable(file: Path, error: Exception) -> UserError:
    """What to say of a label file that is damaged."""
    reason = first_line(error)
    return UserError(f"label file {file} cannot be read ({reason}); delete it to search its samples again")


def as_labels(file: Path, table: pyarrow.Table, num_layers: int, good_from: float) -> Iterator[Label]:
    """The labels of a file's rows, of which those of one question are together.

    Raises:
        UserError: naming the file, if they are none.
    """
    rows = (row for batch in table.to_batches(max_chunksize=_ROWS) for row in batch.to_pylist())
    try:
        for _, own in groupby(rows, key=lambda row: tuple(row[name] for name in KEY)):
            yield _label(list(own), num_layers, good_from)
    except (ValueError, TypeError, AttributeError) as error:
        raise unreadable(file, error) from None


def _label(rows: Sequence[Mapping[str, Any]], num_layers: int, good_from: float) -> Label:
    first = rows[0]
    trials, lucky = list[Trial](), list[tuple[Chain, int]]()
    for row in rows:
        chain = Chain.parse(row["chain"], num_layers)
        if row["target"] == "gold":
            own = {name: row[name] for name in _OF_TRIAL}
            trials.append(Trial(chain, **own | {"scores": tuple(row["scores"] or ())}))
        else:
            lucky.append((chain, row["simulation"]))
    if not trials or not trials[0].chain.is_base or not all(math.isfinite(trial.reward) for trial in trials):
        raise ValueError(f"question {first['id']} has no chains, not the base chain first, or rewards that are none")
    luck = Luck(first["decoy"], tuple(lucky)) if first["decoy"] is not None else None
    task, split, name = (first[one] for one in KEY)
    return Label(task, split, name, tuple(trials), luck, first["digest"], good_from)


def as_table(labels: Sequence[Label]) -> pyarrow.Table:
    """Labels as rows: of each the chains tried, then the finds of the luck control; built by column, since a search
    makes millions."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for label in labels:
        finds = (
            [Trial(chain, label.good_from, 0.0, 0, found) for chain, found in label.luck.found] if label.luck else []
        )
        rows = [*label.trials, *finds]
        for name in (*KEY, "digest"):
            columns[name] += [getattr(label, name)] * len(rows)
        columns["target"] += ["gold"] * len(label.trials) + ["luck"] * len(finds)
        columns["decoy"] += [label.luck and label.luck.option] * len(rows)
        columns["chain"] += [str(trial.chain) for trial in rows]
        columns["depth"] += [trial.chain.depth for trial in rows]
        for name in _OF_TRIAL:
            columns[name] += [getattr(trial, name) for trial in rows]
    return pyarrow.table(columns, schema=SCHEMA)
