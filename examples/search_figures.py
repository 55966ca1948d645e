"""Figures of what searches found, and the table of it by task and kind of edit, as papers on the subject show them.

python -m examples.search_figures figures --labels data/labels/arc_easy-test data/labels/arc_challenge-test
python -m examples.search_figures table --labels data/labels/dart_math_1-*
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

import numpy
from rich.table import Table

from cola_learn.chains import Chain
from cola_learn.command import Command, Main, run_stage, usage
from cola_learn.console import PlainConsole, console
from cola_learn.errors import UserError
from cola_learn.files import writable_folder, write_text
from cola_learn.label.manifest import Manifest
from cola_learn.label.store import LabelStore
from cola_learn.label.summary import Tally
from cola_learn.plots import FADED, GRID, INK, ORACLE, REPEAT, SKIP, as_svg, themed
from cola_learn.stats import Interval

PERCENTILES = (5, 10, 20)
OPERATIONS = ("skip", "repeat", "both")


@dataclass(frozen=True)
class FiguresOptions:
    """Options of figures.

    Attributes:
        labels: label stores; each is a row or a panel of the figures.
        output: folder for the figures (SVG), figures.html with all of them, and figures.json with their numbers.
    """

    labels: list[Path]
    output: Path = Path("runs/figures")


@dataclass(frozen=True)
class TableOptions:
    """Options of table.

    Attributes:
        labels: label stores of one or more tasks, each with skips only, repeats only or both.
        output: Markdown file with the table; its numbers go into a JSON file beside it.
    """

    labels: list[Path]
    output: Path = Path("runs/table.md")


@dataclass
class Found:
    """What one store holds.

    Attributes:
        tally: counts over its labels.
        right, corrected: shallowest right chains of the questions that the base chain answers rightly, and of those
            that it answers wrongly.
        percentiles: for each of ``PERCENTILES``, the depth at it among each question's good chains.
        store: where it is.
    """

    store: LabelStore
    tally: Tally
    right: list[Chain] = field(default_factory=list)
    corrected: list[Chain] = field(default_factory=list)
    percentiles: dict[int, list[float]] = field(default_factory=lambda: {share: [] for share in PERCENTILES})

    @property
    def manifest(self) -> Manifest:
        return self.store.manifest

    @classmethod
    def read(cls, folder: Path) -> "Found":
        """Raises:
        UserError: if there is no store, or one without labels.
        """
        store = LabelStore.open(folder)
        found = cls(store, Tally(store.manifest.model.num_layers, store.manifest.plan.simulations))
        for label in store:
            found.tally.add(label)
            if label.good:
                (found.right if label.base.reward >= 1 else found.corrected).append(label.good[0].chain)
                depths = [trial.chain.depth for trial in label.good]
                for share, kept in found.percentiles.items():
                    kept.append(float(numpy.percentile(depths, share)))
        if not found.tally.questions:
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
        questions = list(self.store.questions().values())
        if questions and questions[0].open:
            return Counter(q.choices[0] for q in questions).most_common(1)[0][1] / len(questions)
        return sum(1 / len(q.choices) for q in questions) / max(1, len(questions))


def run_figures(options: FiguresOptions) -> dict[str, str]:
    """Draw what searches found; returns the figures as SVG by name.

    Raises:
        UserError: if a store cannot be read, or they are of models with different numbers of layers.
    """
    stores = _named([Found.read(folder) for folder in options.labels])
    depths = {found.manifest.model.num_layers for found in stores.values()}
    if len(depths) > 1:
        raise UserError(f"--labels are of models with {' and '.join(map(str, sorted(depths)))} layers; draw each alone")
    num_layers = depths.pop()
    best = {name: [*found.right, *found.corrected] for name, found in stores.items()}
    best = {name: chains for name, chains in best.items() if chains}
    if not best:
        raise UserError("--labels hold no good chain, so there is nothing to draw")
    drawn = {
        "depth": depths_plot(
            {name: {"stays right": found.right, "is corrected": found.corrected} for name, found in stores.items()},
            num_layers,
        ),
        "transitions": transitions_plot({name: found.transitions for name, found in stores.items()}),
        "layer_use": layer_heat(best, num_layers),
        "skips_and_repeats": layer_use(best, num_layers),
        "percentiles": percentiles_plot({name: found.percentiles for name, found in stores.items()}, num_layers),
    }
    writable_folder(options.output)
    for name, svg in drawn.items():
        write_text(options.output / f"{name}.svg", svg)
    numbers = {
        name: {
            "task": found.manifest.source.task,
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
    tasks = Counter(found.manifest.source.task for found in stores)
    named: dict[str, Found] = {}
    for found in stores:
        manifest = found.manifest
        name = Path(manifest.source.task).name
        if tasks[manifest.source.task] > 1:
            name += f", {manifest.plan.space.operations}"
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
        row = cells.setdefault(found.manifest.source.task, {})
        kind = found.manifest.plan.space.operations
        if kind in row:
            raise UserError(f"--labels {folder}: another store of {found.manifest.source.task} has {kind}, too")
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


def layer_use(policies: Mapping[str, Sequence[Chain]], num_layers: int) -> str:
    """How often each layer is skipped and repeated, one panel a policy."""
    with themed(7.2, 1.0 + 1.9 * len(policies)) as figure:
        panels = figure.subplots(len(policies), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (name, chains) in zip(panels, policies.items(), strict=True):
            counts = [[chain.layers.count(layer) for chain in chains] for layer in range(num_layers)]
            skipped = [100 * sum(count == 0 for count in layer) / len(chains) for layer in counts]
            repeated = [100 * sum(count > 1 for count in layer) / len(chains) for layer in counts]
            places = range(num_layers)
            axes.bar(places, skipped, color=SKIP, width=0.8, label="skipped")
            axes.bar(places, [-share for share in repeated], color=REPEAT, width=0.8, label="repeated")
            axes.axhline(0, color=INK, linewidth=0.8)
            axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
            axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}%")
        panels[0].legend(loc="upper right", frameon=False, ncols=2, fontsize=9, bbox_to_anchor=(1, 1.3))
        panels[-1].set_xlabel("layer")
        figure.supylabel("share of questions", fontsize=10.5)
        return as_svg(figure)


def depths_plot(chains: Mapping[str, Mapping[str, Sequence[Chain]]], num_layers: int) -> str:
    """Depth and unique depth of chains, a row a store, a line a kind of question."""
    with themed(8.4, 0.7 + 1.9 * len(chains)) as figure:
        panels = figure.subplots(len(chains), 2, sharex="col", squeeze=False)
        for row, (name, kinds) in zip(panels, chains.items(), strict=True):
            for axes, measure in zip(row, ("depth", "unique_depth"), strict=True):
                for color, (kind, found) in zip((SKIP, REPEAT), kinds.items(), strict=True):
                    counts = numpy.bincount([getattr(chain, measure) for chain in found], minlength=num_layers + 1)
                    shares = 100 * counts / max(1, len(found))
                    axes.step(range(len(shares)), shares, where="mid", color=color, label=f"{kind} ({len(found)})")
                axes.axvline(num_layers, color=INK, linewidth=0.8, linestyle="--")
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
            row[0].set_title(name, loc="left", fontsize=10)
            row[1].legend(loc="upper right", frameon=False, fontsize=8.5)
        shortest = min(
            (chain.unique_depth for kinds in chains.values() for f in kinds.values() for chain in f), default=0
        )
        deepest = max((chain.depth for kinds in chains.values() for f in kinds.values() for chain in f), default=0)
        for axes, label in zip(panels[-1], ("depth (layers executed)", "unique depth (distinct layers)"), strict=True):
            axes.set_xlabel(label)
            axes.set_xlim(max(0, shortest - 1), max(num_layers, deepest) + 1)
        figure.supylabel("share of shallowest right chains", fontsize=10.5)
        return as_svg(figure)


def transitions_plot(stores: Mapping[str, Mapping[str, int]]) -> str:
    """What a search does to answers, a bar a store."""
    colors = (SKIP, FADED, REPEAT, GRID)
    with themed(8.4, 1.3 + 0.42 * len(stores)) as figure:
        axes = figure.add_subplot()
        kinds = list(next(iter(stores.values())))
        left = numpy.zeros(len(stores))
        places = range(len(stores) - 1, -1, -1)
        for kind, color in zip(kinds, colors, strict=True):
            shares = numpy.array([100 * counts[kind] / max(1, sum(counts.values())) for counts in stores.values()])
            axes.barh(places, shares, left=left, color=color, height=0.7, label=kind)
            for place, start, share in zip(places, left, shares, strict=True):
                if share >= 5:
                    ink = "white" if color in (SKIP, REPEAT) else INK
                    axes.text(
                        start + share / 2, place, f"{share:.0f}%", ha="center", va="center", color=ink, fontsize=9
                    )
            left += shares
        axes.set_yticks(places, [f"{name} ({sum(counts.values())})" for name, counts in stores.items()])
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of questions, %")
        axes.grid(visible=False)
        figure.legend(loc="outside upper center", frameon=False, ncols=2, fontsize=9)
        return as_svg(figure)


def layer_heat(stores: Mapping[str, Sequence[Chain]], num_layers: int) -> str:
    """How often each layer runs in a chain on average, a row a store; white is once, as in the plain model."""
    with themed(8.4, 1.5 + 0.36 * len(stores)) as figure:
        axes = figure.add_subplot()
        runs = numpy.array(
            [
                [sum(chain.layers.count(layer) for chain in chains) / len(chains) for layer in range(num_layers)]
                for chains in stores.values()
            ]
        )
        limit = max(0.05, float(numpy.abs(runs - 1).max()))
        image = axes.imshow(runs, cmap="RdBu_r", vmin=1 - limit, vmax=1 + limit, aspect="auto")
        axes.set_yticks(range(len(stores)), list(stores))
        axes.set_xlabel("layer")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, shrink=0.9).set_label("mean executions")
        return as_svg(figure)


def percentiles_plot(stores: Mapping[str, Mapping[int, Sequence[float]]], num_layers: int) -> str:
    """The depth at low percentiles of each question's good chains: median over questions, and the middle half."""
    with themed(8.4, 1.5 + 0.5 * len(stores)) as figure:
        axes = figure.add_subplot()
        marks = dict(zip(next(iter(stores.values())), ((SKIP, "o"), (ORACLE, "s"), (REPEAT, "^")), strict=True))
        for place, depths_at in enumerate(stores.values()):
            for step, (share, found) in enumerate(depths_at.items()):
                if not found:
                    continue
                low, middle, high = numpy.percentile(found, (25, 50, 75))
                color, marker = marks[share]
                height = -place + 0.22 * (1 - step)
                axes.plot([low, high], [height, height], color=color, linewidth=2)
                label = f"{share}th percentile" if place == 0 else None
                axes.plot(middle, height, marker, color=color, markersize=6, linestyle="none", label=label)
        axes.axvline(num_layers, color=INK, linewidth=0.8, linestyle="--")
        names = [f"{name} ({len(next(iter(found.values())))})" for name, found in stores.items()]
        axes.set_yticks([-place for place in range(len(stores))], names)
        axes.set_xlabel("depth within a question's good chains (median and middle half of questions)")
        figure.legend(loc="outside upper center", frameon=False, ncols=3, fontsize=9)
        return as_svg(figure)


COMMANDS: dict[str, Main] = {
    "figures": Command(
        FiguresOptions,
        run_figures,
        "Draw what searches found: depths, transitions, layer use, of one label store or several.",
        ("--labels",),
    ),
    "table": Command(
        TableOptions,
        run_table,
        "Tabulate what searches found by task and kind of edit, beside what luck would find.",
        ("--labels",),
    ),
}

if __name__ == "__main__":
    run_stage("examples.search_figures", usage(COMMANDS), COMMANDS)
