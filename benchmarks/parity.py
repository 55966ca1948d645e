"""The base chain beside lm-evaluation-harness, question by question, under ``acc`` and ``acc_norm``.

The harness loads the model itself and encodes and scores in its own way; only contexts and options are given to it.
"""

from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from cola_learn.backbone.executor import Executor
from cola_learn.backbone.load import load_backbone, source_of
from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.console import console, progress_bar
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question, as_sample

_AT_ONCE = 16  # questions


@dataclass(frozen=True)
class ParityOptions:
    """Options of python -m benchmarks.parity.

    Attributes:
        backbone: as for label.
        tasks: benchmarks with options.
        split: of each.
        questions: how many of each, drawn with seed 0.
    """

    backbone: str = "embedded"
    tasks: list[str] = field(default_factory=lambda: ["arc_easy", "commonsense_qa"])
    split: str = "validation"
    questions: int = 100


@dataclass(frozen=True)
class Parity:
    """Of one task: accuracies in shares of ``questions``, how often both choose the same option, and the largest
    difference of a score in nats.
    """

    task: str
    questions: int
    acc: tuple[float, float]
    acc_norm: tuple[float, float]
    same: int
    same_norm: int
    difference: float


def compare(backbone: Any, harness: Any, task: str, questions: list[Question]) -> Parity:
    """Score the questions both ways.

    Args:
        backbone: in float32.
        harness: an ``HFLM`` of the same model.
        task: for the result.
        questions: with options.
    """
    from lm_eval.api.instance import Instance

    samples = [as_sample(question) for question in questions]
    requests = [
        Instance("loglikelihood", {}, (context, continuation), index)
        for sample in samples
        for index, (context, continuation) in enumerate(zip(sample.contexts, sample.continuations, strict=True))
    ]
    theirs = iter([value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)])
    base = Chain.base(backbone.num_layers)
    right = {"ours": [0, 0], "theirs": [0, 0]}
    same, largest = [0, 0], 0.0
    with progress_bar() as bar:
        shown = bar.add_task(task, total=len(questions), unit="questions", note="")
        for start in range(0, len(samples), _AT_ONCE):
            some = samples[start : start + _AT_ONCE]
            scorer = OptionScorer(Executor(backbone))
            for sample in some:
                scorer.open(sample)
            for question, sample, scores in zip(
                questions[start:], some, scorer.score([(sample.key, base) for sample in some]), strict=False
            ):
                expected = [next(theirs) for _ in question.choices]
                largest = max(largest, *(abs(a - b) for a, b in zip(expected, scores.values, strict=True)))
                for place, lengths in enumerate(((1,) * len(expected), sample.lengths)):
                    choices = [
                        max(range(len(expected)), key=[v / n for v, n in zip(values, lengths, strict=True)].__getitem__)
                        for values in (scores.values, expected)
                    ]
                    right["ours"][place] += choices[0] == question.gold
                    right["theirs"][place] += choices[1] == question.gold
                    same[place] += choices[0] == choices[1]
            bar.advance(shown, len(some))
    count = len(questions)
    acc, acc_norm = ((right["ours"][place] / count, right["theirs"][place] / count) for place in (0, 1))
    return Parity(task, count, acc, acc_norm, same[0], same[1], largest)


def run_parity(options: ParityOptions) -> list[Parity]:
    """Compare on every task and print the table."""
    from lm_eval.models.huggingface import HFLM

    backbone = load_backbone(options.backbone, dtype="float32")
    harness = HFLM(pretrained=source_of(options.backbone), dtype="float32", batch_size=8, device="cpu")
    found = [
        compare(backbone, harness, task, load_task(task, options.split, options.questions)) for task in options.tasks
    ]
    table = Table(title=f"{options.backbone} in float32: cola-learn / lm-evaluation-harness", box=None)
    for name in ("task", "questions", "acc", "acc_norm", "same choice", "same, acc_norm", "largest difference, nats"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for row in found:
        both = [f"{ours:.1%} / {theirs:.1%}" for ours, theirs in (row.acc, row.acc_norm)]
        table.add_row(row.task, str(row.questions), *both, str(row.same), str(row.same_norm), f"{row.difference:.1e}")
    console.print(table)
    return found


if __name__ == "__main__":
    Command(ParityOptions, run_parity, "Compare scores with lm-evaluation-harness.")("benchmarks.parity")
