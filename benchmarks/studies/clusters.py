"""Which way of searching finds the best chains for texts: on single prompts, on clusters of prompts that read alike, or
on all prompts together. Chains are chosen on some prompts and measured on others of the same cluster.

    python -m benchmarks.studies.clusters
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy
from numpy.typing import NDArray
from scipy.stats import bootstrap

from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain, SearchSpace, Skip
from cola_learn.command import Command
from cola_learn.console import PlainConsole, progress_bar
from cola_learn.label.clusters import clusters_of
from cola_learn.rewards.response_judge import ResponseJudge
from cola_learn.search.mcts import MCTS
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question, as_sample
from cola_learn.tasks.texts import TEXTS

Skipped = tuple[int, ...]


@dataclass(frozen=True)
class ClusterOptions:
    """Options of python -m benchmarks.studies.clusters.

    Attributes:
        prompts: of each kind of text.
        clusters: into which they fall.
        search: prompts of a cluster on which chains are searched.
        confirm: others of it on which they are measured.
        most: layers skipped.
        edits: of the best single skips, those that compositions and beams are made of.
        width: of the beam.
        backbone: whose layers run.
        dtype: precision.
        seed: of the draws.
    """

    prompts: int = 4
    clusters: int = 6
    search: int = 8
    confirm: int = 12
    most: int = 5
    edits: int = 6
    width: int = 3
    backbone: str = "embedded"
    dtype: Dtype = "auto"
    seed: int = 0
    kinds: list[str] = field(default_factory=lambda: list(TEXTS))


class Gains:
    """Gains of chains on responses, in nats a token, each measured once."""

    def __init__(self, judge: ResponseJudge, num_layers: int) -> None:
        self.judge, self.num_layers = judge, num_layers
        self._known: dict[tuple[str, Skipped], tuple[float, float, float]] = {}

    def measure(self, questions: Sequence[Question], chains: Iterable[Skipped]) -> None:
        """Measure chains on responses, together, so that they share what they begin with."""
        pairs = [(one.key, own) for one in questions for own in chains if (one.key, own) not in self._known]
        scores = self.judge.score([(key, self._chain(own)) for key, own in pairs])
        self._known |= {pair: (one.logprob, *one.halves) for pair, one in zip(pairs, scores, strict=True)}

    def _chain(self, skipped: Skipped) -> Chain:
        return Chain.from_edits([Skip(layer, 1) for layer in skipped], self.num_layers)

    def of(self, questions: Sequence[Question], skipped: Skipped) -> NDArray[numpy.float64]:
        """The gain of a chain on each response, on every other chunk of its tokens, and on the chunks between
        ``[Q, 3]``."""
        self.measure(questions, [(), skipped])
        own = numpy.array([self._known[one.key, skipped] for one in questions])
        return own if not skipped else own - self.of(questions, ())


Value = Callable[[Sequence[Skipped]], list[float]]
"""Mean gains of chains."""
Found = dict[int, Skipped]


def ranked(value: Value, layers: int) -> list[int]:
    """Layers, those that cost least by themselves first."""
    gains = value([(layer,) for layer in range(layers)])
    return sorted(range(layers), key=lambda layer: -gains[layer])


def additive(value: Value, layers: int, options: ClusterOptions) -> Found:
    """For each number of skips the best ones by themselves."""
    order = ranked(value, layers)
    return {count: tuple(sorted(order[:count])) for count in range(1, options.most + 1)}


def beam(value: Value, layers: int, options: ClusterOptions, width: int) -> Found:
    """One more of the best single skips at a time, of which the best few are kept; a width of 1 is greedy
    composition."""
    order = ranked(value, layers)[: options.edits]
    kept: list[Skipped] = [()]
    found: Found = {}
    for count in range(1, options.most + 1):
        grown = sorted({tuple(sorted((*own, layer))) for own in kept for layer in order if layer not in own})
        gains = dict(zip(grown, value(grown), strict=True))
        kept = sorted(grown, key=lambda own: -gains[own])[:width]  # sorted here and now
        found[count] = kept[0]
    return found


def tree(value: Value, layers: int, options: ClusterOptions, budget: int) -> Found:
    """Monte Carlo tree search with as many chains as the beam tried; the best of each depth."""
    space = SearchSpace(max_block=1, operations="skip")
    search = MCTS(simulations=budget, depth_penalty=0.5).start(layers, space, str(options.seed))
    best: dict[int, tuple[float, Skipped]] = {}
    while (chain := search.ask()) is not None:
        skipped = tuple(sorted(set(range(layers)) - set(chain.layers)))
        if len(skipped) > options.most:
            search.tell(chain, 0.0, -10.0)
            continue
        [gain] = value([skipped])
        search.tell(chain, float(numpy.exp(gain)), gain)
        best[len(skipped)] = max(best.get(len(skipped), (-numpy.inf, ())), (gain, skipped))
    singles = additive(value, layers, options)
    return {count: best[count][1] if count in best else singles[count] for count in singles}


def run_clusters(options: ClusterOptions) -> None:
    """Print, for each number of skips, what the chains of every way of searching lose on other prompts."""
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    questions = [one for kind in options.kinds for one in load_task(kind, "train", options.prompts, options.seed)]
    own = clusters_of(backbone, questions, "cloze", options.clusters, options.seed)
    chance = random.Random(options.seed)
    groups = []
    for cluster in sorted(set(own.tolist())):
        members = [questions[row] for row in numpy.flatnonzero(own == cluster)]
        chance.shuffle(members)
        share = options.search / (options.search + options.confirm)
        cut = min(options.search, round(len(members) * share))
        groups.append((members[:cut], members[cut : cut + options.confirm]))
    judge = ResponseJudge(Executor(backbone), truncate=True)
    layers = backbone.num_layers
    gains = Gains(judge, layers)
    for one in (one for pair in groups for part in pair for one in part):
        judge.open(as_sample(one))
    depths = range(1, options.most + 1)
    lost: dict[str, list[list[float]]] = {}

    def note(name: str, found: Found, measured: Iterable[Question], part: int = 0) -> None:
        columns = [-gains.of(list(measured), found[count])[:, part] for count in depths]
        lost.setdefault(name, []).extend(numpy.stack(columns, 1).tolist())

    def value_on(some: Sequence[Question], tried: set[Skipped], part: int = 0) -> Value:
        def value(chains: Sequence[Skipped]) -> list[float]:
            tried.update(chains)
            gains.measure(some, chains)
            return [float(gains.of(some, own)[:, part].mean()) for own in chains]

        return value

    pooled = [one for some, _ in groups for one in some]
    cost: dict[str, int] = {}
    searched = f"beam of {options.width}"
    with progress_bar() as bar:
        task = bar.add_task("clusters", total=len(groups) + 1, unit="clusters", note="")
        together = beam(value_on(pooled, set()), layers, options, options.width)
        bar.advance(task)
        for some, others in groups:
            tried: set[Skipped] = set()
            value = value_on(some, tried)
            ways: dict[str, Callable[[], Found]] = {
                "additive composition": partial(additive, value, layers, options),
                "greedy composition": partial(beam, value, layers, options, 1),
                searched: partial(beam, value, layers, options, options.width),
                "MCTS": lambda value=value: tree(value, layers, options, cost[searched]),  # type: ignore[misc]
            }
            for name, way in ways.items():
                tried.clear()
                found = way()
                cost[name] = len(tried)
                note(name, found, others)
            note(f"everything together, {searched}", together, others)
            for one in others:  # each alone, and what half of its response says of the other half
                for name, part in (("single prompts, additive", 0), ("single prompts, half on half", 1)):
                    note(name, additive(value_on([one], set(), part), layers, options), [one], 2 * part)
            bar.advance(task)
    _show(lost, cost, [layers - count for count in depths])


def _show(lost: dict[str, list[list[float]]], cost: dict[str, int], depths: Sequence[int]) -> None:
    console = PlainConsole()
    base = numpy.array(lost["additive composition"])
    console.print(
        f"nats a token lost on {len(base)} prompts by chains of {', '.join(map(str, depths))} layers, and less"
    )
    console.print("than by additive composition (95% interval), with the chains that each way tried on a cluster")
    for name, rows in lost.items():
        values = numpy.array(rows)
        cells = []
        for column in range(len(depths)):
            less = base[:, column] - values[:, column]
            cell = f"{values[:, column].mean():.3f}"
            if less.any():
                interval = bootstrap((less,), numpy.mean, rng=numpy.random.default_rng(0)).confidence_interval
                cell += f" {less.mean():+.3f} ({interval.low:+.3f}, {interval.high:+.3f})"
            cells.append(cell)
        console.print(f"{name} [{cost.get(name, '-')}]: " + "; ".join(cells))


if __name__ == "__main__":
    Command(ClusterOptions, run_clusters, "Search of chains for texts: alone, in clusters, together.")(
        "benchmarks.studies.clusters"
    )
