"""What can be read off a prompt about which chain suits it: by layer read, by target, by number of questions and of
chains.

    python -m benchmarks.studies.reading --layers 0 7

Ridge regression from prompts to the gains of a menu's chains, cross-validated on training questions; nothing held out
is looked at. Beside it what the name of the task alone would give. Reading a layer takes minutes, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy
from numpy.typing import NDArray
from rich.table import Table
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.load import load_backbone
from cola_learn.command import Command
from cola_learn.console import PlainConsole, console
from cola_learn.evaluate.held_table import Choice, HeldTable
from cola_learn.evaluate.policies import pooled
from cola_learn.evaluate.static_front import StaticFront
from cola_learn.label.score_matrix import Array, ScoreMatrix, open_stores
from cola_learn.rewards.scores import LEAST_PROBABILITY
from cola_learn.stats import p_value, paired_difference, points
from cola_learn.train.features import features_of

_FOLDS = 5
_COMPONENTS = 256
_POOLING = 0.7


@dataclass(frozen=True)
class ReadingOptions:
    """Options of the study.

    Attributes:
        labels: stores of a menu.
        layers: after how many layers prompts are read.
        depths: mean depths, as shares of the base chain's.
        questions: for the learning curve; the last layer is read.
        chains: sizes of smaller menus, the static front and others drawn at random; the last layer is read.
        menus: drawn of each size.
        seed: of the folds, the menus and the bootstrap.
    """

    labels: Path = Path("data/menu/pool")
    layers: list[int] = field(default_factory=lambda: [0, 7])
    depths: list[float] = field(default_factory=lambda: [0.8, 0.85, 0.9, 1.0])
    questions: list[int] = field(default_factory=lambda: [1000, 2000, 4000])
    chains: list[int] = field(default_factory=lambda: [6, 8, 10, 12])
    menus: int = 50
    seed: int = 0


def run_reading(options: ReadingOptions) -> None:
    """Print the table."""
    stores = open_stores(options.labels)
    table, manifest = ScoreMatrix.load(stores), stores[0].manifest

    @lru_cache
    def backbone() -> Backbone:
        loaded = load_backbone(manifest.model.name, dtype=manifest.model.dtype)
        loaded.write_special_tokens(manifest.model.special_tokens, f"--labels {options.labels}")
        return loaded

    def read(layer: int) -> Array:
        known = features_of(manifest, table.questions, [layer], backbone, manifest.model.dtype)
        vectors = StandardScaler().fit_transform(pooled([known[question.key] for question in table.questions]))
        components = PCA(min(_COMPONENTS, *vectors.shape), svd_solver="randomized", random_state=0)
        reduced: Array = components.fit_transform(vectors)
        return reduced / reduced[:, 0].std()

    names = numpy.unique(table.tasks)
    task = (table.tasks[:, None] == names).astype(float)
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in (
        "read",
        "target",
        "questions",
        "set to",
        "layers",
        "Δ base",
        "Δ static front",
        "Δ shuffled",
        "Δ in task",
    ):
        grid.add_column(heading, justify="left" if heading in ("read", "target") else "right", no_wrap=True)

    def add(read_from: str, target: str, predicted: Array, count: int) -> None:
        for share in options.depths:
            grid.add_row(
                read_from, target, f"{count:,}", f"{share:.0%}", *_judged(table, predicted, share, options.seed)
            )

    gold = table.soft - table.soft[:, :1]
    vectors, named = task, _crossed(task, gold, options.seed)
    add("task", "gold", named, len(table))
    predicted = named
    for layer in options.layers:
        vectors = read(layer)
        predicted = _crossed(vectors, gold, options.seed)
        add(f"layer {layer}", "gold", predicted, len(table))
    add(f"layer {layer}", "agreement", _crossed(vectors, _agreement(table), options.seed), len(table))
    shared = _crossed(vectors, gold, options.seed, tasks=table.tasks)
    add(f"layer {layer}", "gold, task", shared, len(table))
    right = table.rewards - table.rewards[:, :1]
    add(f"layer {layer}", "right or wrong", _crossed(vectors, right, options.seed), len(table))
    for count in options.questions:
        add(f"layer {layer}", "gold", _crossed(vectors, gold, options.seed, count), count)
    PlainConsole(width=160).print(grid)
    PlainConsole(width=160).print(_by_chains(table, {"task": named, f"layer {layer}": predicted}, options))
    console.print(f"{len(table)} questions, {_FOLDS}-fold; points of accuracy with 95% intervals, * p < 0.05")


def _agreement(table: ScoreMatrix) -> Array:
    """Gains in the log-probability of the answer that the base chain gives, ``[Q, C]``; at most about 0."""
    answers = table.scores[:, 0].argmax(1)
    kept = numpy.take_along_axis(table.probabilities, answers[:, None, None], 2)[:, :, 0]
    logs: Array = numpy.log(numpy.maximum(kept, LEAST_PROBABILITY))
    return logs - logs[:, :1]


def _crossed(
    vectors: Array, gains: Array, seed: int, count: int | None = None, tasks: NDArray[numpy.str_] | None = None
) -> Array:
    """Predicted gains of every question, from others, at most ``count`` of them, each chain with the mean that it has
    there and deviations as cross-validation scales them. With ``tasks`` the gains that are fitted are drawn towards
    their means over a task (partial pooling): what a chain gains on one question is mostly noise."""
    predicted = numpy.zeros_like(gains)
    draws = numpy.random.default_rng(seed)
    for others, mine in KFold(_FOLDS, shuffle=True, random_state=seed).split(vectors):
        some = others if count is None else draws.choice(others, min(count, len(others)), replace=False)
        target = gains[some].copy()
        if tasks is not None:
            for task in numpy.unique(tasks):
                own = tasks[some] == task
                target[own] += _POOLING * (target[own].mean(0) - target[own])
        model = RidgeCV(numpy.logspace(0, 5, 11)).fit(vectors[some], target)
        predicted[mine] = model.predict(vectors[mine])
    return predicted


def _judged(table: ScoreMatrix, predicted: Array, share: float, seed: int) -> Sequence[str]:
    chosen = _chosen(table.depths, predicted, share * table.depths[0])
    mine, depth = table.rewards[numpy.arange(len(table)), chosen], float(table.depths[chosen].mean())
    mixed = StaticFront.of(table.depths, table.soft.mean(0)).at(depth)
    others = [table.rewards[:, 0], mine if mixed is None else table.rewards @ mixed]
    dealt = HeldTable.of_menu(table).result(Choice("", tuple(table.chains[one] for one in chosen), dealt=True))
    others += [mine if one is None else one for one in (dealt.shuffled, dealt.shuffled_in_task)]
    return [f"{depth:.1f}", *(_difference(mine, other, seed) for other in others)]


def _chosen(depths: Array, predicted: Array, limit: float) -> NDArray[numpy.int64]:
    """Chains of the highest predicted gains ``[Q, C]``, less the lowest price at which the mean depth is within
    the limit, ``[Q]``."""
    saved = 1 - depths / depths[0]
    low, high = 0.0, 100.0
    for _ in range(50):
        price = (low + high) / 2
        deep = depths[(predicted + price * saved).argmax(1)].mean() > limit
        low, high = (price, high) if deep else (low, price)
    found: NDArray[numpy.int64] = (predicted + high * saved).argmax(1)
    return found


def _by_chains(table: ScoreMatrix, predicted: Mapping[str, Array], options: ReadingOptions) -> Table:
    """What smaller menus give that hold the base chain and the static front, in the mean over menus."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("chains", "read", "set to", "layers", "Δ base", "Δ static front"):
        grid.add_column(heading, justify="left" if heading == "read" else "right", no_wrap=True)
    front = StaticFront.of(table.depths, table.soft.mean(0))
    kept = sorted({0, *front.corners})
    others = [chain for chain in range(len(table.chains)) if chain not in kept]
    rows = numpy.arange(len(table))
    for size in sorted({len(kept), *(size for size in options.chains if size > len(kept)), len(table.chains)}):
        draws = numpy.random.default_rng(options.seed)
        added = min(size, len(table.chains)) - len(kept)
        menus = [numpy.array(kept + sorted(draws.choice(others, added, replace=False))) for _ in range(options.menus)]
        for read_from, gains in predicted.items():
            for share in options.depths:
                mine, mixed, depths = numpy.zeros(len(table)), numpy.zeros(len(table)), []
                for menu in menus:
                    chosen = menu[_chosen(table.depths[menu], gains[:, menu], share * table.depths[0])]
                    depths.append(float(table.depths[chosen].mean()))
                    chances = front.at(depths[-1])
                    mine += table.rewards[rows, chosen] / len(menus)
                    mixed += (table.rewards[rows, chosen] if chances is None else table.rewards @ chances) / len(menus)
                cells = [_difference(mine, other, options.seed) for other in (table.rewards[:, 0], mixed)]
                grid.add_row(f"{size}", read_from, f"{share:.0%}", f"{numpy.mean(depths):.1f}", *cells)
    return grid


def _difference(mine: Array, other: Array, seed: int) -> str:
    mark = "*" if p_value(mine, other) < 0.05 else ""
    return points(paired_difference(list(mine), list(other), seed)) + mark


if __name__ == "__main__":
    Command(ReadingOptions, run_reading, "What can be read off a prompt, cross-validated.")(
        "benchmarks.studies.reading"
    )
