"""How often a reward differs between a search (chains share their work) and the same chain alone and uncached.

Every chain that a search of ARC-Easy test questions asks for is scored twice: as the search does, among other
trees and with the activation trie, and by itself in an executor that keeps nothing. A killed run goes on.

    python -m benchmarks.flips --dtype bfloat16 --output runs/flips-bf16.jsonl
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.studies.journal import Journal
from cola_learn import MCTS, Backbone, Executor, Plan, Question, load_backbone, load_task
from cola_learn.backbone.dtypes import Dtype
from cola_learn.command import Command
from cola_learn.console import console, progress_bar
from cola_learn.label.driver import label_questions
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.tasks.questions import as_sample

_BLOCK = 25


@dataclass(frozen=True)
class FlipOptions:
    """Options of the study.

    Attributes:
        questions: ARC-Easy test questions.
        chains: simulations of each question's search; every distinct chain of it is scored twice.
        dtype: precision of the backbone.
        seed: of the draw and the searches.
        output: file of margins, one line a question; an unfinished one is gone on with.
    """

    questions: int = 500
    chains: int = 50
    dtype: Dtype = "bfloat16"
    seed: int = 0
    output: Path = Path("runs/flips.jsonl")


@dataclass(frozen=True)
class Flips:
    """What the two ways of scoring gave.

    Attributes:
        pairs: (question, chain) pairs scored both ways.
        flips: pairs whose reward differs.
        moved: pairs whose margin differs in any bit.
        largest: largest difference of a margin, in nats.
    """

    pairs: int
    flips: int
    moved: int
    largest: float

    @classmethod
    def of(cls, margins: Sequence[tuple[float, float]]) -> "Flips":
        return cls(
            len(margins),
            sum((together > 0) != (alone > 0) for together, alone in margins),
            sum(together != alone for together, alone in margins),
            max((abs(together - alone) for together, alone in margins), default=0.0),
        )

    @property
    def rate(self) -> float:
        return self.flips / max(1, self.pairs)


def both_margins(
    backbone: Backbone, questions: Sequence[Question], chains: int, seed: int
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """For every question the margins of its search's chains, (as the search scored it, alone and uncached)."""
    together, alone = OptionScorer(Executor(backbone)), OptionScorer(Executor(backbone, cache_bytes=0))
    plan = Plan(MCTS(chains), seed=seed, luck=False, neighbours=0)
    for finished in label_questions(together, questions, plan):
        for question, label in finished:
            alone.open(as_sample(question))
            margins = []
            for trial in label.trials:
                margin = alone.score([(question.key, trial.chain)])[0].margin(question.gold)
                margins.append((trial.margin, margin))
            alone.close(question.key)
            yield question.key, margins


def run_flips(options: FlipOptions) -> None:
    """Score what the file lacks, then print the rate."""
    questions = load_task("arc_easy", "test", options.questions, options.seed)
    settings = {"chains": options.chains, "dtype": options.dtype, "seed": options.seed}
    journal = Journal(options.output, settings)
    done = {part["key"] for part in journal.parts}
    missing = [question for question in questions if question.key not in done]
    backbone = load_backbone(dtype=options.dtype)
    with progress_bar() as bar:
        task = bar.add_task(f"flips, {options.dtype}", total=len(missing), unit="questions", note="")
        for start in range(0, len(missing), _BLOCK):
            for key, pairs in both_margins(backbone, missing[start : start + _BLOCK], options.chains, options.seed):
                journal.add({"key": key, "margins": pairs})
                bar.advance(task)
    wanted = {question.key for question in questions}
    parts = [part["margins"] for part in journal.parts if part["key"] in wanted]
    found = Flips.of([pair for pairs in parts for pair in pairs])
    console.print(
        f"{len(parts)} questions, {found.pairs} chains: {found.flips} rewards flip ({found.rate:.3%}), "
        f"{found.moved} margins differ in some bit, at most by {found.largest:.2g} nats"
    )


if __name__ == "__main__":
    Command(FlipOptions, run_flips, "Count rewards that depend on who shared their batch.")("benchmarks.flips")
