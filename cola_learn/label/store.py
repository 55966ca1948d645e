"""The label store: a folder with a manifest and Parquet files, written atomically, safe to kill and resume."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import accumulate, groupby, repeat
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cola_learn.backbone.load import Dtype
from cola_learn.chains import Chain, SearchSpace
from cola_learn.cli import UserError, writable_folder, write_text
from cola_learn.label.records import Label, Luck, Reward, Trial
from cola_learn.tasks import Layout, Metric, Prompt, Question, Template, Truncate, load_task
from cola_learn.tasks.prompts import Example

FORMAT = 2
ROWS_PER_SHARD = 512
_CARD = """---
configs:
- config_name: default
  data_files: "*.parquet"
---
Chains of layers of `{backbone}` that were tried on `{task}`, split `{split}`, one row a question; `manifest.json` says
how. Questions are named by task, split and id. `datasets.load_dataset` reads this folder, `python -m cola_learn.label
inspect` shows what it holds.
"""
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


@dataclass(frozen=True)
class Manifest:
    """What labels depend on; two stores with equal manifests may be joined.

    Attributes:
        backbone, fingerprint, num_layers, dtype: the model, as the user named it and as it is.
        task, split, template, metric: what was asked and how it was scored.
        space, search: the search's settings.
        seed: of the search.
        luck, neighbours: which controls were run beside it.
        scores: whether the score of every option is kept for each chain.
        reward, prompt: how chains were judged, and how open questions were put (None for questions with choices).
        special_tokens: written before every prompt, as text; stores that do not say were made without.
        truncate: whether prompts that were too long were cut.
        layout: how a file of questions was read, as far as its rows do not say.
        revision: of the dataset on the hub that the questions are from.
        versions: of the libraries that computed it; stores may be joined over them.
    """

    backbone: str
    fingerprint: str
    num_layers: int
    dtype: Dtype
    task: str
    split: str
    template: Template
    metric: Metric
    space: Mapping[str, Any]
    search: Mapping[str, Any]
    seed: int
    luck: bool = True
    neighbours: int = 0
    scores: bool = False
    reward: Reward = "choices"
    prompt: Mapping[str, Any] | None = None
    special_tokens: str = ""
    truncate: Truncate = "no"
    layout: Mapping[str, Any] = field(default_factory=dict)
    revision: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def answer_prompt(self) -> Prompt:
        """How open questions were put."""
        values = dict(self.prompt or {})
        values["examples"] = tuple(Example(**example) for example in values.get("examples", ()))
        return Prompt(**values)

    def questions(self) -> list[Question]:
        """All questions of the task, read as they were then.

        Raises:
            UserError: if they are not to be had.
        """
        return load_task(self.task, self.split, layout=Layout(**self.layout), revision=self.revision)

    @property
    def search_space(self) -> SearchSpace:
        return SearchSpace(**self.space)

    def difference(self, other: "Manifest") -> tuple[str, Any, Any] | None:
        """The first setting in which two manifests differ, with both values; None if their labels may be joined."""
        mine, others = asdict(self), asdict(other)
        names = [name for name in mine if name != "versions" and mine[name] != others[name]]
        return (names[0], mine[names[0]], others[names[0]]) if names else None


class LabelStore:
    """Labels of one run, in Parquet files: ``part-*`` while it is under way, ``labels-*`` when it is done.

    Open an existing one with :meth:`open`, begin or resume one with :meth:`create`.

    Attributes:
        folder: where it is.
        manifest: what its labels depend on.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._parts: int | None = None

    @classmethod
    def open(cls, folder: Path, named: str = "--labels") -> "LabelStore":
        """An existing store; ``named`` is what the user called it by, for messages.

        Raises:
            UserError: if the folder holds none, or one that cannot be read.
        """
        file = Path(folder) / "manifest.json"
        try:
            values = json.loads(file.read_text())
            if values.get("format") != FORMAT:
                raise UserError(
                    f"{named} {folder} has format {values.get('format')}; this version of cola-learn reads format "
                    f"{FORMAT}: label again, or use the version that made it"
                )
            manifest = Manifest(**values)
        except FileNotFoundError:
            raise UserError(
                f"{named} {folder} is not a label store (no manifest.json); make one with python -m cola_learn.label"
            ) from None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{named} {folder}: manifest.json cannot be read: {error}") from None
        return cls(Path(folder), manifest)

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> "LabelStore":
        """Begin a store, or resume one made with the same settings.

        Raises:
            UserError: if the folder cannot be written, or holds labels made with other settings.
        """
        if (folder / "manifest.json").exists():
            store = cls.open(folder, "--output")
            if different := store.manifest.difference(manifest):
                name, old, new = ("none" if value == "" else value for value in different)
                raise UserError(
                    f"--output {folder} holds labels made with {name} {old}, not {new}; "
                    "name another folder or use the same setting"
                )
            return store
        writable_folder(folder)
        write_text(
            folder / "README.md", _CARD.format(task=manifest.task, split=manifest.split, backbone=manifest.backbone)
        )
        write_text(folder / "manifest.json", json.dumps(asdict(manifest), indent=2) + "\n")
        return cls(folder, manifest)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store for writing.

        Raises:
            UserError: if another process does.
        """
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"--output {self.folder} is being written by another run; wait or name another"
                ) from None
            yield

    def append(self, labels: Sequence[Label]) -> None:
        """Add finished labels as one new file."""
        if labels:
            self._write(self._next_part(), _as_table(labels))

    def compact(self, order: Iterable[str]) -> None:
        """Join all files into shards of equal size, each label once, in the order of the given keys (those not named
        come last). Killed at any moment, it loses nothing: what is old goes when all that is new is there.
        """
        for leftover in self.folder.glob("compact-*.parquet"):  # of a run killed here; it may be the only copy
            os.replace(leftover, self._next_part())
        files = self.files()
        places = self._places(files)
        rank = {key: index for index, key in enumerate(order)}
        keys = sorted(places, key=lambda key: (rank.get(key, len(rank)), key))
        shards = range(0, len(keys), ROWS_PER_SHARD)
        names = [f"labels-{number:05d}.parquet" for number in range(len(shards))]
        if [file.name for file in files] == names and list(places) == keys:
            return
        for number, start in enumerate(shards):
            rows = self._gather([places[key] for key in keys[start : start + ROWS_PER_SHARD]])
            self._write(self.folder / f"compact-{number:05d}.parquet", rows)
        for file in files:
            file.unlink()
        for name in names:
            os.replace(self.folder / name.replace("labels", "compact"), self.folder / name)

    def __iter__(self) -> Iterator[Label]:
        """Every label once, one file at a time in memory.

        Raises:
            UserError: naming a file that cannot be read.
        """
        seen: set[str] = set()
        for file in self.files():
            for batch in self._table(file).to_batches(max_chunksize=64):
                for row in batch.to_pylist():
                    key = f"{row['task']}/{row['split']}/{row['id']}"
                    if key not in seen:
                        seen.add(key)
                        yield self._label(row)

    def read(self) -> list[Label]:
        """All labels at once."""
        return list(self)

    def keys(self) -> set[str]:
        """``task/split/id`` of every label, without reading the chains."""
        return set(self._places(self.files()))

    def check(self, questions: Iterable[Question], named: str = "--output") -> None:
        """Refuse questions that are not what they were when they were labelled; others may be new.

        Raises:
            UserError: naming the first that has changed.
        """
        self._compare(self._digests(), questions, named)

    def _digests(self) -> dict[str, str | None]:
        """What each labelled question was, by key; None in labels of versions that kept nothing of it."""
        return {
            f"{row['task']}/{row['split']}/{row['id']}": row["question"]
            for file in self.files()
            for row in self._table(file, ["task", "split", "id", "question"]).to_pylist()
        }

    def _compare(self, digests: Mapping[str, str | None], questions: Iterable[Question], named: str) -> None:
        changed = [question for question in questions if digests.get(question.key) not in (None, question.digest)]
        if changed:
            raise UserError(
                f"{named} {self.folder}: {len(changed)} questions of {self.manifest.task}, such as {changed[0].key}, "
                "are no longer what they were when they were labelled; label the changed file into another folder"
            )

    def questions(self, named: str = "--labels") -> dict[str, Question]:
        """The labelled questions by key.

        Raises:
            UserError: if the task no longer has one of them, or has another one in its place.
        """
        found = {question.key: question for question in self.manifest.questions()}
        digests = self._digests()
        if missing := digests.keys() - found.keys():
            raise UserError(
                f"{named} {self.folder}: question {min(missing)} is not in task {self.manifest.task} any more"
            )
        kept = {key: question for key, question in found.items() if key in digests}
        self._compare(digests, kept.values(), named)
        return kept

    def files(self) -> list[Path]:
        """The Parquet files, in order."""
        return sorted(self.folder.glob("*.parquet"))

    def _next_part(self) -> Path:
        if self._parts is None:
            self._parts = max((int(path.stem.split("-")[1]) for path in self.folder.glob("part-*.parquet")), default=0)
        self._parts += 1
        return self.folder / f"part-{self._parts:07d}.parquet"

    def _places(self, files: Sequence[Path]) -> dict[str, tuple[Path, int]]:
        """Where each label is: file and row."""
        places: dict[str, tuple[Path, int]] = {}
        for file in files:
            for index, row in enumerate(self._table(file, ["task", "split", "id"]).to_pylist()):
                places.setdefault("/".join(row.values()), (file, index))
        return places

    def _gather(self, places: Sequence[tuple[Path, int]]) -> pyarrow.Table:
        """The rows at these places, in this order; one file at a time in memory."""
        order = sorted(range(len(places)), key=lambda number: places[number])
        pieces = [
            self._table(file).take([places[number][1] for number in numbers])
            for file, numbers in groupby(order, key=lambda number: places[number][0])
        ]
        back = sorted(range(len(order)), key=order.__getitem__)
        return pyarrow.concat_tables(pieces).take(back).combine_chunks()

    def _table(self, file: Path, columns: Sequence[str] | None = None) -> pyarrow.Table:
        try:
            return pyarrow.parquet.read_table(file, schema=_SCHEMA, columns=columns)
        except (OSError, pyarrow.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"label file {file} cannot be read ({reason}); delete it to search its samples again"
            ) from None

    def _label(self, row: Mapping[str, Any]) -> Label:
        depth = self.manifest.num_layers
        names = ("reward", "margin", "visits", "simulation", "neighbours", "neighbours_good")
        scores = map(tuple, row["scores"]) if row["scores"] else repeat(())
        trials = tuple(
            Trial(Chain.parse(trial["chain"], depth), **{name: trial[name] for name in names}, scores=own)
            for trial, own in zip(row["chains"], scores, strict=False)
        )
        luck = row["luck"] and Luck(
            row["luck"]["option"],
            row["luck"]["tried"],
            tuple((Chain.parse(found["chain"], depth), found["simulation"]) for found in row["luck"]["found"]),
        )
        return Label(row["task"], row["split"], row["id"], trials, luck, row["question"] or "")

    def _write(self, file: Path, table: pyarrow.Table) -> None:
        scratch = file.with_name(f".{file.name}.tmp")
        try:
            pyarrow.parquet.write_table(table, scratch, compression="zstd")
            os.replace(scratch, file)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise UserError(
                f"label file {file} cannot be written: {error.strerror or error}; what was finished before is kept"
            ) from None


def _as_table(labels: Sequence[Label]) -> pyarrow.Table:
    """One row a label; built by column, since a search makes millions of trials."""
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
