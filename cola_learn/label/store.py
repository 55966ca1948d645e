"""The label store: a folder with a manifest and Parquet files, written atomically, safe to kill and resume."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pyarrow

from cola_learn.assets import download
from cola_learn.backbone.load import load_tokenizer
from cola_learn.errors import UserError
from cola_learn.files import locked, writable_folder, write_text
from cola_learn.label.manifest import Manifest
from cola_learn.label.parquet import (
    KEY,
    QUESTIONS,
    SCHEMA,
    as_labels,
    as_table,
    label_files,
    read_questions,
    read_table,
    write_questions,
    write_table,
)
from cola_learn.label.records import Label
from cola_learn.rewards.prompts import in_template
from cola_learn.tasks.questions import Question
from cola_learn.tracking import Artifact, artifact_name

_JOINED = "scores"
_CARD = """---
configs:
- config_name: scores
  data_files: "*-*.parquet"
  default: true
- config_name: questions
  data_files: "questions.parquet"
---
Chains of layers of `{backbone}` that were tried on `{task}`, split `{split}`, a row for each question and chain;
`manifest.json` says how. Questions are named by task, split and id; their text is in `questions.parquet`, if anywhere.
`datasets.load_dataset` reads this folder, `python -m cola_learn.label inspect` shows what it holds.
"""


class LabelStore:
    """Labels of one run, in Parquet files: ``part-*`` while it is under way, one ``scores-*`` when it is done.

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
            card = _CARD.format(task=manifest.source.task, split=manifest.source.split, backbone=manifest.model.name)
            write_text(folder / "README.md", card)
            manifest.write(folder)
        return cls(folder, manifest)

    def artifact(self) -> Artifact:
        """This store for W&B."""
        manifest = self.manifest
        return Artifact(
            artifact_name("labels", manifest.source.task, manifest.model.name),
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
        known = self.kept()
        if (now := known | {question.key: question for question in questions}) != known:
            write_questions(self.folder / QUESTIONS, now.values())

    def kept(self) -> dict[str, Question]:
        """The questions kept, by key."""
        return read_questions(self.folder / QUESTIONS)

    def compact(self, order: Iterable[str]) -> None:
        """Join all files into one, each label once, in the order of the given keys (those not named come last). Killed
        at any moment, it loses nothing: what is old goes when all that is new is there.
        """
        files, labels = self.files(), self.digests()
        rank = {key: index for index, key in enumerate(order)}
        keys = sorted(labels, key=lambda key: (rank.get(key, len(rank)), key))
        if not files or ([file.name.startswith(_JOINED) for file in files] == [True] and list(labels) == keys):
            return
        rows: dict[str, list[int]] = {}  # of a key: where its rows are in its first file
        tables, start = [read_table(file) for file in files], 0
        for table in tables:
            own: defaultdict[str, list[int]] = defaultdict(list)
            for place, key in enumerate(_keys(table), start):
                own[key].append(place)
            rows = own | rows
            start += len(table)
        joined = pyarrow.concat_tables(tables).take([place for key in keys for place in rows[key]])
        written = write_table(self.folder, _JOINED, joined.combine_chunks())
        for file in files:
            if file != written:
                file.unlink()

    def __iter__(self) -> Iterator[Label]:
        """Every label once, one file at a time in memory.

        Raises:
            UserError: naming a file that cannot be read.
        """
        seen: set[str] = set()
        for file, table in self._tables():
            for label in as_labels(file, table, self.manifest.model.num_layers, self.manifest.good_from):
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

    def digests(self) -> dict[str, str]:
        """What each labelled question was, by key, in the order of the labels; "" where nothing of it was kept."""
        found: dict[str, str] = {}
        for _, table in self._tables([*KEY, "digest"]):
            own = dict(zip(_keys(table, self.alias), table["digest"].to_pylist(), strict=True))
            found |= {key: digest for key, digest in own.items() if key not in found}
        return found

    def _compare(self, digests: Mapping[str, str], questions: Iterable[Question], named: str) -> None:
        changed = [question for question in questions if digests.get(question.key, "") not in ("", question.digest)]
        if changed:
            raise UserError(
                f"{named} {self.folder}: {len(changed)} of its questions, such as {changed[0].key}, are no longer "
                " what they were when they were labelled; label the changed file into another folder"
            )

    def questions(self, named: str = "--labels") -> dict[str, Question]:
        """The labelled questions by key: those kept with the labels, else read from their task again.

        Raises:
            UserError: if the task no longer has one of them, or has another one in its place.
        """
        digests = self.digests()
        found = self._called_here(self.kept().values())
        if digests.keys() - found.keys():  # committed stores hold no text of benchmarks
            tokenizer = partial(load_tokenizer, self.manifest.model.name)
            found |= self._called_here(in_template(self.manifest.source.questions(), tokenizer))
        if missing := digests.keys() - found.keys():
            raise UserError(
                f"{named} {self.folder}: question {min(missing)} is not in task {self.manifest.source.task} any more"
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

    def _tables(self, columns: Sequence[str] = SCHEMA.names) -> Iterator[tuple[Path, pyarrow.Table]]:
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


def _keys(table: pyarrow.Table, alias: str = "") -> list[str]:
    """``task/split/id`` of every row."""
    names = (table[name].to_pylist() for name in KEY)
    return [f"{alias or task}/{split}/{name}" for task, split, name in zip(*names, strict=True)]
