"""Labels as Arrow tables, and as Parquet files with checksums."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, repeat
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
_DIGITS = 16  # of a file's SHA-256, at the end of its name
_CHAINS = pyarrow.struct(
    [
        ("chain", pyarrow.string()),
        ("depth", pyarrow.int32()),
        ("reward", pyarrow.float32()),
        ("margin", pyarrow.float64()),
        ("visits", pyarrow.int32()),
        ("simulation", pyarrow.int32()),
        ("neighbours", pyarrow.int32()),
        ("neighbours_good", pyarrow.int32()),
    ]
)
_FOUND = pyarrow.struct([("chain", pyarrow.string()), ("depth", pyarrow.int32()), ("simulation", pyarrow.int32())])
_LUCK = pyarrow.struct([("option", pyarrow.int32()), ("tried", pyarrow.int32()), ("found", pyarrow.list_(_FOUND))])
_SCHEMA = pyarrow.schema(
    [
        ("task", pyarrow.string()),
        ("split", pyarrow.string()),
        ("id", pyarrow.string()),
        ("base_reward", pyarrow.float32()),
        ("base_margin", pyarrow.float64()),
        ("chains", pyarrow.list_(_CHAINS)),
        ("pareto", pyarrow.list_(pyarrow.int32())),
        ("luck", _LUCK),
        ("scores", pyarrow.list_(pyarrow.list_(pyarrow.float32()))),
        ("question", pyarrow.string()),
    ]
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


def read_table(file: Path, columns: Sequence[str] | None = None) -> pyarrow.Table:
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
        if parquet.metadata.num_rows > len(content):
            raise ValueError(f"{parquet.metadata.num_rows:,} rows in {len(content):,} bytes")
        wanted = _SCHEMA if columns is None else pyarrow.schema([_SCHEMA.field(name) for name in columns])
        table = parquet.read(columns=[name for name in wanted.names if name in parquet.schema_arrow.names])
        for field in wanted:  # those that older versions did not write
            if field.name not in table.column_names:
                table = table.append_column(field, pyarrow.nulls(len(table), field.type))
        return table.select(wanted.names).cast(wanted)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise unreadable(file, error) from None


def write_questions(file: Path, questions: Iterable[Question]) -> None:
    """Write questions, a row each.

    Raises:
        UserError: if it cannot be written.
    """
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.Table.from_pylist([asdict(question) for question in questions])
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


def as_label(row: Mapping[str, Any], num_layers: int, good_from: float = 1.0) -> Label:
    """A label of its row.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: if it is none.
    """
    names = ("reward", "margin", "visits", "simulation", "neighbours", "neighbours_good")
    scores = map(tuple, row["scores"]) if row["scores"] else repeat(())
    trials = tuple(
        Trial(Chain.parse(trial["chain"], num_layers), **{name: trial[name] for name in names}, scores=own)
        for trial, own in zip(row["chains"], scores, strict=False)
    )
    if not trials or not trials[0].chain.is_base or not all(0 <= trial.reward <= 1 for trial in trials):
        raise ValueError(f"question {row['id']} has no chains, not the base chain first, or rewards beyond 0 and 1")
    luck = row["luck"] and Luck(
        row["luck"]["option"],
        row["luck"]["tried"],
        tuple((Chain.parse(found["chain"], num_layers), found["simulation"]) for found in row["luck"]["found"]),
    )
    return Label(row["task"], row["split"], row["id"], trials, luck, row["question"] or "", good_from)


def as_table(labels: Sequence[Label]) -> pyarrow.Table:
    """Labels as rows; built by column, since a search makes millions of trials."""
    trials = [trial for label in labels for trial in label.trials]
    chains = [
        [str(trial.chain) for trial in trials],
        [len(trial.chain.layers) for trial in trials],
        *([getattr(trial, name) for trial in trials] for name in _CHAINS.names[2:]),
    ]
    found = [pair for label in labels if label.luck for pair in label.luck.found]
    improvements = [
        [str(chain) for chain, _ in found],
        [chain.depth for chain, _ in found],
        [simulation for _, simulation in found],
    ]
    luck = [
        [label.luck.option if label.luck else None for label in labels],
        [label.luck.tried if label.luck else None for label in labels],
        _as_lists([len(label.luck.found) if label.luck else 0 for label in labels], _as_structs(improvements, _FOUND)),
    ]
    columns = [
        *([getattr(label, name) for label in labels] for name in ("task", "split", "id")),
        [label.base.reward for label in labels],
        [label.base.margin for label in labels],
        _as_lists([len(label.trials) for label in labels], _as_structs(chains, _CHAINS)),
        [list(label.pareto) for label in labels],
        _as_structs(luck, _LUCK, [label.luck is None for label in labels]),
        [[trial.scores for trial in label.trials] if label.base.scores else None for label in labels],
        [label.digest or None for label in labels],
    ]
    arrays = [
        column if isinstance(column, pyarrow.Array) else pyarrow.array(column, kind)
        for column, kind in zip(columns, _SCHEMA.types, strict=True)
    ]
    return pyarrow.Table.from_arrays(arrays, schema=_SCHEMA)


def _as_structs(columns: Sequence[Any], kind: Any, missing: Sequence[bool] | None = None) -> Any:
    arrays = [
        column if isinstance(column, pyarrow.Array) else pyarrow.array(column, one.type)
        for column, one in zip(columns, kind, strict=True)
    ]
    mask = None if missing is None else pyarrow.array(missing)
    return pyarrow.StructArray.from_arrays(arrays, fields=list(kind), mask=mask)


def _as_lists(lengths: Sequence[int], values: Any) -> Any:
    return pyarrow.ListArray.from_arrays(pyarrow.array([0, *accumulate(lengths)], pyarrow.int32()), values)
