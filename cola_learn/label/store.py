"""The label store: a folder with a manifest and Parquet files, written atomically, safe to kill and resume."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cola_learn.backbone.load import Dtype
from cola_learn.chains import Chain, SearchSpace
from cola_learn.cli import UserError, writable_folder, write_text
from cola_learn.label.records import Label, Trial
from cola_learn.tasks import Metric, Template

FORMAT = 1
_SCHEMA = pyarrow.schema(
    [
        ("task", pyarrow.string()),
        ("split", pyarrow.string()),
        ("id", pyarrow.string()),
        ("base_reward", pyarrow.float32()),
        ("base_margin", pyarrow.float32()),
        (
            "chains",
            pyarrow.list_(
                pyarrow.struct(
                    [
                        ("chain", pyarrow.string()),
                        ("depth", pyarrow.int32()),
                        ("reward", pyarrow.float32()),
                        ("margin", pyarrow.float32()),
                        ("visits", pyarrow.int32()),
                    ]
                )
            ),
        ),
        ("pareto", pyarrow.list_(pyarrow.int32())),
    ]
)


@dataclass(frozen=True)
class Manifest:
    """What labels depend on; two stores with equal manifests may be joined.

    Attributes:
        backbone, fingerprint, num_layers, dtype: the model, as the user named it and as it is.
        task, split, template, metric: what was asked and how it was scored.
        target: ``gold``, or ``luck`` where a wrong option was searched for instead.
        space, search: the search's settings.
        seed: of the search.
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
    target: str = "gold"
    format: int = FORMAT

    @property
    def search_space(self) -> SearchSpace:
        return SearchSpace(**self.space)


class LabelStore:
    """Labels of one run. Open an existing one with :meth:`open`, begin or resume one with :meth:`create`.

    Attributes:
        folder: where it is.
        manifest: what its labels depend on.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: Path) -> "LabelStore":
        """An existing store.

        Raises:
            UserError: if the folder holds none, or one that cannot be read.
        """
        file = Path(folder) / "manifest.json"
        try:
            manifest = Manifest(**json.loads(file.read_text()))
        except FileNotFoundError:
            raise UserError(
                f"--labels {folder} is not a label store (no manifest.json); make one with python -m cola_learn.label"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"--labels {folder}: manifest.json cannot be read: {error}") from None
        return cls(Path(folder), manifest)

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> "LabelStore":
        """Begin a store, or resume one made with the same settings.

        Raises:
            UserError: if the folder cannot be written, or holds labels made with other settings.
        """
        if (folder / "manifest.json").exists():
            store = cls.open(folder)
            old, new = asdict(store.manifest), asdict(manifest)
            for name in new:
                if old[name] != new[name]:
                    raise UserError(
                        f"--output {folder} holds labels made with {name} {old[name]}, not {new[name]}; "
                        "name another folder or use the same setting"
                    )
            return store
        writable_folder(folder)
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
            number = max((int(path.stem.split("-")[1]) for path in self._files()), default=0) + 1
            self._write(self.folder / f"labels-{number:05d}.parquet", labels)

    def compact(self, order: Iterable[str]) -> None:
        """Join all files into one, rows in the order of the given keys (rows not named come last)."""
        rank = {key: index for index, key in enumerate(order)}
        files = self._files()
        labels = sorted(self.read(), key=lambda label: (rank.get(label.key, len(rank)), label.key))
        first = self.folder / "labels-00000.parquet"
        if labels and files != [first]:
            self._write(first, labels)
            for path in files:
                if path != first:
                    path.unlink()

    def read(self) -> list[Label]:
        """All labels.

        Raises:
            UserError: naming a file that cannot be read.
        """
        labels: dict[str, Label] = {}
        for row in self._rows():
            label = self._label(row)
            labels.setdefault(label.key, label)
        return list(labels.values())

    def keys(self) -> set[str]:
        """``task/split/id`` of every label, without reading the chains."""
        return {"/".join(row.values()) for row in self._rows(["task", "split", "id"])}

    def _rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        for path in self._files():
            try:
                yield from pyarrow.parquet.read_table(path, schema=_SCHEMA, columns=columns).to_pylist()
            except (OSError, pyarrow.ArrowException) as error:
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"label file {path} cannot be read ({reason}); delete it to search its samples again"
                ) from None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("labels-*.parquet"))

    def _label(self, row: Mapping[str, Any]) -> Label:
        trials = tuple(
            Trial(
                Chain.parse(trial["chain"], self.manifest.num_layers),
                *(trial[name] for name in ("reward", "margin", "visits")),
            )
            for trial in row["chains"]
        )
        return Label(row["task"], row["split"], row["id"], trials)

    def _write(self, path: Path, labels: Sequence[Label]) -> None:
        rows = [
            {
                "task": label.task,
                "split": label.split,
                "id": label.id,
                "base_reward": label.base.reward,
                "base_margin": label.base.margin,
                "chains": [
                    {
                        "chain": str(trial.chain),
                        "depth": trial.chain.depth,
                        "reward": trial.reward,
                        "margin": trial.margin,
                        "visits": trial.visits,
                    }
                    for trial in label.trials
                ],
                "pareto": list(label.pareto),
            }
            for label in labels
        ]
        scratch = path.with_name(f".{path.name}.tmp")
        try:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=_SCHEMA), scratch, compression="zstd")
            os.replace(scratch, path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise UserError(f"label file {path} cannot be written: {error.strerror or error}") from None
