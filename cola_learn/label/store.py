"""The label store: a folder with a manifest and Parquet files, written atomically, safe to kill and resume."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path

import pyarrow

from cola_learn.assets import download
from cola_learn.errors import UserError
from cola_learn.files import locked, writable_folder, write_text
from cola_learn.label.manifest import Manifest
from cola_learn.label.parquet import (
    QUESTIONS,
    as_label,
    as_table,
    label_files,
    read_questions,
    read_table,
    unreadable,
    write_questions,
    write_table,
)
from cola_learn.label.records import Label
from cola_learn.tasks.questions import Question
from cola_learn.tracking import Artifact, artifact_name

ROWS_PER_SHARD = 512
_CARD = """---
configs:
- config_name: labels
  data_files: "*-*.parquet"
  default: true
- config_name: questions
  data_files: "questions.parquet"
---
Chains of layers of `{backbone}` that were tried on `{task}`, split `{split}`, one row a question; `manifest.json` says
how. Questions are named by task, split and id; their text is in `questions.parquet`, if anywhere.
`datasets.load_dataset` reads this folder, `python -m cola_learn.label inspect` shows what it holds.
"""


class LabelStore:
    """Labels of one run, in Parquet files: ``part-*`` while it is under way, ``labels-*`` when it is done.

    Open an existing one with ``open``, begin or resume one with ``create``.

    Attributes:
        folder: where it is.
        manifest: what its labels depend on.
        alias: what its task is called here, where other questions of a store read with it have the same names.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.alias = ""
        self._parts: int | None = None

    @classmethod
    def open(cls, folder: Path, named: str = "--labels") -> "LabelStore":
        """An existing store; ``named`` is what the user called it by, for messages.

        Raises:
            UserError: if the folder holds none, or one that cannot be read.
        """
        folder = download(Path(folder))
        return cls(folder, Manifest.read(folder, named))

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> "LabelStore":
        """Begin a store, or resume one made with the same settings.

        Raises:
            UserError: if the folder cannot be written, or holds labels made with other settings.
        """
        writable_folder(folder)
        with locked(folder):
            if (folder / "manifest.json").exists():
                store = cls.open(folder, "--output")
                if different := store.manifest.difference(manifest):
                    name, old, new = ("none" if value == "" else value for value in different)
                    raise UserError(
                        f"--output {folder} holds labels made with {name} {old}, not {new}; "
                        "name another folder or use the same setting"
                    )
                return store
            if label_files(folder):
                raise UserError(f"--output {folder} holds Parquet files but no manifest.json; name another folder")
            card = _CARD.format(task=manifest.task, split=manifest.split, backbone=manifest.backbone)
            write_text(folder / "README.md", card)
            manifest.write(folder)
        return cls(folder, manifest)

    def artifact(self) -> Artifact:
        """This store for W&B."""
        manifest = self.manifest
        return Artifact(
            artifact_name("labels", manifest.task, manifest.backbone),
            "labels",
            [self.folder / "manifest.json", *self.folder.glob(QUESTIONS), *self.files()],
            asdict(manifest),
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store for writing.

        Raises:
            UserError: if another process does.
        """
        with locked(self.folder):
            self._parts = None
            yield

    def append(self, labels: Sequence[Label]) -> None:
        """Add finished labels as one new file."""
        if labels:
            write_table(self.folder, self._next_part(), as_table(labels))

    def keep(self, questions: Iterable[Question]) -> None:
        """Keep questions beside their labels, so that nothing that reads these needs the task again."""
        file = self.folder / QUESTIONS
        known = read_questions(file)
        if (now := known | {question.key: question for question in questions}) != known:
            write_questions(file, now.values())

    def compact(self, order: Iterable[str]) -> None:
        """Join all files into shards of equal size, each label once, in the order of the given keys (those not named
        come last). Killed at any moment, it loses nothing: what is old goes when all that is new is there.
        """
        for leftover in self.folder.glob("compact-*.parquet"):  # of a run killed here; it may be the only copy
            os.replace(leftover, self.folder / f"{self._next_part()}-{_digits(leftover)}.parquet")
        files = self.files()
        places = self._places(files)
        rank = {key: index for index, key in enumerate(order)}
        keys = sorted(places, key=lambda key: (rank.get(key, len(rank)), key))
        shards = range(0, len(keys), ROWS_PER_SHARD)
        names = [f"labels-{number:05d}" for number in range(len(shards))]
        if [file.name.rpartition("-")[0] for file in files] == names and list(places) == keys:
            return
        joined = []
        for number, start in enumerate(shards):
            rows = self._gather([places[key] for key in keys[start : start + ROWS_PER_SHARD]])
            joined.append(write_table(self.folder, f"compact-{number:05d}", rows))
        for file in files:
            file.unlink()
        for file in joined:
            os.replace(file, file.with_name(file.name.replace("compact", "labels")))

    def __iter__(self) -> Iterator[Label]:
        """Every label once, one file at a time in memory.

        Raises:
            UserError: naming a file that cannot be read.
        """
        seen: set[str] = set()
        for file, table in self._tables():
            for batch in table.to_batches(max_chunksize=64):
                for row in batch.to_pylist():
                    try:
                        label = as_label(row, self.manifest.num_layers, self.manifest.good_from)
                    except (ValueError, TypeError, KeyError, AttributeError) as error:
                        raise unreadable(file, error) from None
                    label = replace(label, task=self.alias) if self.alias else label
                    if label.key not in seen:
                        seen.add(label.key)
                        yield label

    def read(self) -> list[Label]:
        """All labels at once."""
        return list(self)

    def keys(self) -> set[str]:
        """``task/split/id`` of every label, without reading the chains."""
        return set(self.digests())

    def check(self, questions: Iterable[Question], named: str = "--output") -> None:
        """Refuse questions that are not what they were when they were labelled; others may be new.

        Raises:
            UserError: naming the first that has changed.
        """
        self._compare(self.digests(), questions, named)

    def digests(self) -> dict[str, str | None]:
        """What each labelled question was, by key; None in labels of versions that kept nothing of it."""
        return {
            f"{self.alias or row['task']}/{row['split']}/{row['id']}": row["question"]
            for _, table in self._tables(["task", "split", "id", "question"])
            for row in table.to_pylist()
        }

    def _compare(self, digests: Mapping[str, str | None], questions: Iterable[Question], named: str) -> None:
        changed = [question for question in questions if digests.get(question.key) not in (None, question.digest)]
        if changed:
            raise UserError(
                f"{named} {self.folder}: {len(changed)} questions of {self.manifest.task}, such as {changed[0].key}, "
                "are no longer what they were when they were labelled; label the changed file into another folder"
            )

    def questions(self, named: str = "--labels") -> dict[str, Question]:
        """The labelled questions by key: those kept with the labels, else read from their task again.

        Raises:
            UserError: if the task no longer has one of them, or has another one in its place.
        """
        digests = self.digests()
        found = self._called_here(read_questions(self.folder / QUESTIONS).values())
        if digests.keys() - found.keys():  # committed stores hold no text of benchmarks
            found |= self._called_here(self.manifest.questions())
        if missing := digests.keys() - found.keys():
            raise UserError(
                f"{named} {self.folder}: question {min(missing)} is not in task {self.manifest.task} any more"
            )
        kept = {key: question for key, question in found.items() if key in digests}
        self._compare(digests, kept.values(), named)
        return kept

    def _called_here(self, questions: Iterable[Question]) -> dict[str, Question]:
        """Questions by key, of the task's alias if it has one."""
        named = (replace(question, task=self.alias) if self.alias else question for question in questions)
        return {question.key: question for question in named}

    def files(self) -> list[Path]:
        """The Parquet files, in order; while others join them, those before or those after."""
        found = None
        while found != (now := label_files(self.folder)):
            found = now
        return now

    def _tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[Path, pyarrow.Table]]:
        """Every file with its rows. Where files are joined meanwhile, what they are joined to comes too: every label
        comes once at least."""
        done: set[str] = set()
        while waiting := [file for file in self.files() if file.name not in done]:
            for file in waiting:
                try:
                    table = read_table(file, columns)
                except FileNotFoundError:
                    break
                done.add(file.name)
                yield file, table

    def _next_part(self) -> str:
        if self._parts is None:
            self._parts = max((int(path.stem.split("-")[1]) for path in self.folder.glob("part-*.parquet")), default=0)
        self._parts += 1
        return f"part-{self._parts:07d}"

    def _places(self, files: Sequence[Path]) -> dict[str, tuple[Path, int]]:
        """Where each label is: file and row."""
        places: dict[str, tuple[Path, int]] = {}
        for file in files:
            for index, row in enumerate(read_table(file, ["task", "split", "id"]).to_pylist()):
                places.setdefault("/".join(row.values()), (file, index))
        return places

    def _gather(self, places: Sequence[tuple[Path, int]]) -> pyarrow.Table:
        """The rows at these places, in this order; one file at a time in memory."""
        order = sorted(range(len(places)), key=lambda number: places[number])
        pieces = [
            read_table(file).take([places[number][1] for number in numbers])
            for file, numbers in groupby(order, key=lambda number: places[number][0])
        ]
        back = sorted(range(len(order)), key=order.__getitem__)
        return pyarrow.concat_tables(pieces).take(back).combine_chunks()


def _digits(file: Path) -> str:
    return file.stem.rpartition("-")[2]
