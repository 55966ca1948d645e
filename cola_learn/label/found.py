"""Figures and the table of search results, from label stores."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

import numpy
from rich.table import Table

from cola_learn.chains import Chain
from cola_learn.console import PlainConsole, console
from cola_learn.errors import UserError
from cola_learn.files import writable_folder, write_text
from cola_learn.intervals import Interval
from cola_learn.label import figures
from cola_learn.label.manifest import Manifest
from cola_learn.label.options import FiguresOptions, TableOptions
from cola_learn.label.store import LabelStore
from cola_learn.label.summary import Tally

PERCENTILES = (5, 10, 20)
OPERATIONS = ("skip", "repeat", "both")


@dataclass
class Found:
    """What one store holds.

    Attributes:
        manifest: of the store.
        tally: counts over its labels.
        right, corrected: shallowest right chains of the questions that the base chain answers rightly, and of those
            that it answers wrongly.
        percentiles: for each of ``PERCENTILES``, the depth at it among each question's good chains.
        keys: the questions.
    """

    manifest: Manifest
    tally: Tally
    right: list[Chain] = field(default_factory=list)
    corrected: list[Chain] = field(default_factory=list)
    percentiles: dict[int, list[float]] = field(default_factory=lambda: {share: [] for share in PERCENTILES})
    keys: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, folder: Path) -> "Found":
        """Raises:
        UserError: if there is no store, or one without labels.
        """
        store = LabelStore.open(folder)
        found = cls(store.manifest, Tally(store.manifest.num_layers, store.manifest.search.get("simulations", 1)))
        for label in store:
            found.keys.add(label.key)
            found.tally.add(label)
            if label.good:
                (found.right if label.base.reward >= 1 else found.corrected).append(label.good[0].chain)
                depths = [trial.chain.depth for trial in label.good]
                for share, kept in found.percentiles.items():
                    kept.append(float(numpy.percentile(depths, share)))
        if not found.keys:
            raise UserError(f"--labels {folder} has no labels yet")
        return found

    @property
    def transitions(self) -> dict[str, int]:
        """Questions by what a search does to their answer."""
        tally = self.tally
        return {
            "right, also through fewer layers": tally.shortened,
            "right, only through as many": tally.right - tally.shortened,
            "wrong, right through another chain": tally.corrected,
            "wrong through all chains": tally.wrong - tally.corrected,
        }

    def guess(self) -> float:
        """What needs no model: the share of right guesses among the choices, or of the commonest short answer."""
        questions = [q for q in self.manifest.questions() if q.key in self.keys]
        if questions and questions[0].open:
            return Counter(q.choices[0] for q in questions).most_common(1)[0][1] / len(questions)
        return sum(1 / len(q.choices) for q in questions) / max(1, len(questions))


def run_figures(options: FiguresOptions) -> dict[str, str]:
    """Draw what searches found; returns the figures as SVG by name.

    Raises:
        UserError: if a store cannot be read, or they are of models with different numbers of layers.
    """
    stores = _named([Found.read(folder) for folder in options.labels])
    depths = {found.manifest.num_layers for found in stores.values()}
    if len(depths) > 1:
        raise UserError(f"--labels are of models with {' and '.join(map(str, sorted(depths)))} layers; draw each alone")
    num_layers = depths.pop()
    best = {name: [*found.right, *found.corrected] for name, found in stores.items()}
    best = {name: chains for name, chains in best.items() if chains}
    if not best:
        raise UserError("--labels hold no good chain, so there is nothing to draw")
    drawn = {
        "depth": figures.depths(
            {name: {"stays right": found.right, "is corrected": found.corrected} for name, found in stores.items()},
            num_layers,
        ),
        "transitions": figures.transitions({name: found.transitions for name, found in stores.items()}),
        "layer_use": figures.layer_heat(best, num_layers),
        "skips_and_repeats": figures.layer_use(best, num_layers),
        "percentiles": figures.percentiles({name: found.percentiles for name, found in stores.items()}, num_layers),
    }
    writable_folder(options.output)
    for name, svg in drawn.items():
        write_text(options.output / f"{name}.svg", svg)
    numbers = {
        name: {
            "task": found.manifest.task,
            "questions": found.tally.questions,
            "transitions": found.transitions,
            "depth_right": [chain.depth for chain in found.right],
            "depth_corrected": [chain.depth for chain in found.corrected],
            "percentiles": {str(share): depths for share, depths in found.percentiles.items()},
        }
        for name, found in stores.items()
    }
    write_text(options.output / "figures.json", json.dumps(numbers) + "\n")
    pictures = "\n".join(f"<h2>{escape(name.replace('_', ' '))}</h2>\n{svg}" for name, svg in drawn.items())
    page = f'<!doctype html><meta charset="utf-8"><title>What search found</title>\n<body style="{_PAGE}">{pictures}'
    write_text(options.output / "figures.html", page)
    console.print(f"figures     {options.output / 'figures.html'}", soft_wrap=True)
    return drawn


_PAGE = "font-family: sans-serif; max-width: 60rem; margin: 2rem auto; color: #1f2933"


def _named(stores: Sequence[Found]) -> dict[str, Found]:
    """Stores by task, and by what else tells them apart where that is not enough."""
    tasks = Counter(found.manifest.task for found in stores)
    named: dict[str, Found] = {}
    for found in stores:
        manifest = found.manifest
        name = Path(manifest.task).name
        if tasks[manifest.task] > 1:
            name += f", {manifest.space['operations']}"
        while name in named:
            name += "'"
        named[name] = found
    return named


def run_table(options: TableOptions) -> str:
    """Print, by task and kind of edit, the share of right answers of the plain model and after search, and what search
    would reach with a wrong option in the place of the gold one wherever the model is wrong; returns it as Markdown.

    Raises:
        UserError: if a store cannot be read, or two are of one task and one kind of edit.
    """
    cells: dict[str, dict[str, Found]] = {}
    for folder in options.labels:
        found = Found.read(folder)
        row = cells.setdefault(found.manifest.task, {})
        kind = found.manifest.space["operations"]
        if kind in row:
            raise UserError(f"--labels {folder}: there is another store of {found.manifest.task} with edits {kind}")
        row[kind] = found
    heads = (
        "task",
        "questions",
        "guess",
        "original",
        "edits",
        "after search",
        "by luck",
        "corrected beyond luck, points",
    )
    rows = [[task, *_row(row[kind], kind)] for task, row in cells.items() for kind in OPERATIONS if kind in row]
    table = Table(box=None)
    for head in heads:
        table.add_column(head, justify="left" if head in ("task", "edits") else "right", no_wrap=head == "task")
    for line in rows:
        table.add_row(*line)
    PlainConsole().print(table)
    text = "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows)) + "\n"
    writable_folder(options.output.parent)
    write_text(options.output, text)
    numbers = {
        task: {
            kind: {**found.tally.numbers(), "guess": found.guess(), "beyond_luck": _interval(found.tally.beyond_luck)}
            for kind, found in row.items()
        }
        for task, row in cells.items()
    }
    write_text(options.output.with_suffix(".json"), json.dumps(numbers, indent=2) + "\n")
    console.print(f"table       {options.output}", soft_wrap=True)
    return text


def _interval(found: Interval | None) -> Mapping[str, float] | None:
    return asdict(found) if found else None


def _row(found: Found, kind: str) -> list[str]:
    tally, total = found.tally, found.tally.questions
    beyond = tally.beyond_luck
    return [
        str(total),
        f"{found.guess():.1%}",
        _share(tally.right, total),
        kind,
        _share(tally.right + tally.corrected, total),
        "" if tally.lucky is None else f"{(tally.right + tally.wrong * tally.lucky) / total:.1%}",
        f"{100 * beyond.mean:+.1f} ({100 * beyond.low:+.1f}, {100 * beyond.high:+.1f})" if beyond else "",
    ]


def _share(count: int, total: int) -> str:
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(method="wilson")
    return f"{count / total:.1%} ({interval.low:.1%}, {interval.high:.1%})"
