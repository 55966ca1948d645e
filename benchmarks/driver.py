"""Overhead of labelling without a model: searches, driver and store on synthetic scores, and memory over time.

They must never bound a GPU. Run::

    python -m benchmarks.driver --questions 2000 --plot docs/memory.svg
"""

import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.files import write_text
from cola_learn.label.driver import collect_seldom, label_questions
from cola_learn.label.manifest import Identity, Manifest, Searched, Source
from cola_learn.label.plan import Plan
from cola_learn.label.records import Label
from cola_learn.label.store import LabelStore
from cola_learn.label.summary import Tally
from cola_learn.plots import SKIP, as_svg, themed
from cola_learn.rewards.scores import OptionScores
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.methods import MCTS
from cola_learn.tasks.questions import Question, Sample

LAYERS = 30


@dataclass(frozen=True)
class Options:
    """Options of python -m benchmarks.driver.

    Attributes:
        questions: how many are labelled.
        simulations: of each search.
        trees: open at a time.
        plot: SVG file for memory against questions.
    """

    questions: int = 2000
    simulations: int = 200
    trees: int = 256
    plot: Path | None = None


class MadeUp:
    """Scores of four options by a hash of question and chain, in no time."""

    num_layers = LAYERS

    def __init__(self) -> None:
        self.scored = 0
        self.seconds = 0.0
        self._table = [
            OptionScores(tuple(zlib.crc32(b"%d %d" % (number, option)) / 2**32 for option in range(4)))
            for number in range(4099)
        ]

    def open(self, sample: Sample) -> None:
        """Nothing to prepare."""

    def close(self, key: str) -> None:
        """Nothing to forget."""

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[OptionScores]:
        """One look in a table each."""
        begin = time.perf_counter()
        self.scored += len(requests)
        found = [self._table[hash((key, chain.layers)) % 4099] for key, chain in requests]
        self.seconds += time.perf_counter() - begin
        return found


def run(options: Options) -> None:
    """Label made-up questions into a store that is thrown away, and print rates."""
    questions = [
        Question("made_up", "test", str(number), "?" * (number % 97), ("a", "b", "c", "d"), number % 4)
        for number in range(options.questions)
    ]
    plan = Plan(MCTS(options.simulations))
    scorer, process = MadeUp(), psutil.Process()
    collect_seldom()
    memory: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(
            Identity("none", "0", LAYERS, "float32"),
            Source("made_up", "test"),
            Scoring(metric="acc", reward="choices"),
            Searched.of(plan, LAYERS),
        )
        store = LabelStore.create(Path(folder), manifest)
        tally = Tally(LAYERS, options.simulations)
        begin = time.perf_counter()
        for finished in label_questions(scorer, questions, plan, trees=options.trees):
            labels: list[Label] = [label for _, label in finished]
            store.append(labels)
            for label in labels:
                tally.add(label)
            memory.append((tally.questions, process.memory_info().rss / 2**20))
        searched = time.perf_counter()
        store.compact(question.key for question in questions)
        seconds = time.perf_counter() - begin - scorer.seconds
        memory.append((tally.questions, process.memory_info().rss / 2**20))
    simulations = 2 * options.simulations * options.questions
    print_line = Console(highlight=False).print
    print_line(f"{scorer.scored} evaluations, {simulations} simulations (gold and luck), {options.questions} questions")
    print_line(
        f"evaluations a second: {scorer.scored / seconds:,.0f}; simulations a second: {simulations / seconds:,.0f}"
    )
    print_line(f"joining the files at the end: {begin + seconds + scorer.seconds - searched:.1f} s of {seconds:.1f} s")
    quarter = next(rss for done, rss in memory if done >= options.questions / 4)
    print_line(
        f"memory after a quarter of the questions: {quarter:.0f} MiB, at most: {max(m for _, m in memory):.0f} MiB"
    )
    if options.plot:
        draw(memory, options)


def draw(memory: Sequence[tuple[int, float]], options: Options) -> None:
    """Resident memory against questions labelled."""
    assert options.plot
    with themed(6.4, 3.2) as figure:
        axes = figure.add_subplot()
        axes.plot(*zip(*memory, strict=True), color=SKIP)
        axes.set_ylim(0)
        axes.set_xlabel("questions labelled")
        axes.set_ylabel("resident memory, MiB")
        write_text(options.plot, as_svg(figure))


if __name__ == "__main__":
    Command(Options, run, "Labelling without a model: searches, driver and store alone.")("benchmarks.driver")
