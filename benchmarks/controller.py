"""Cost of a controller relative to one forward of its backbone: FLOPs and time.

``python -m benchmarks.controller --controller checkpoints/menu``; question by question, nothing shared between them.
A decision reads the prompt's hidden states and weighs the chains. Where the chains begin with the layers whose states
are read, as those of the committed controller do, these run once: the forward is measured with and without reading.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from cola_learn.backbone.executor import Executor
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.evaluate.costs import count_flops, seconds
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Sample, as_sample
from cola_learn.train.controller import Controller
from cola_learn.train.features import prompt_features


@dataclass(frozen=True)
class ControllerCostOptions:
    """Options of python -m benchmarks.controller.

    Attributes:
        controller: folder of an exported controller.
        task: task of the questions.
        split: their split.
        questions: how many.
        repetitions: of each measurement; medians are taken.
    """

    controller: Path = Path("checkpoints/menu")
    task: str = "arc_easy"
    split: str = "validation"
    questions: int = 50
    repetitions: int = 5


def run(options: ControllerCostOptions) -> None:
    """Print the table."""
    controller = Controller.from_pretrained(options.controller)
    backbone = load_backbone(controller.config.backbone)
    scorer = OptionScorer(Executor(backbone))
    layers = controller.config.feature_layers
    base = Chain.base(backbone.num_layers)
    measured: dict[str, list[tuple[float, float]]] = {"base forward": [], "with reading": [], "decision": []}
    for question in load_task(options.task, options.split, options.questions):
        sample = as_sample(question)
        features: list[Tensor] = prompt_features(backbone, [sample.prompt], layers)

        def forward(sample: Sample = sample, read: bool = False) -> None:
            scorer.open(sample)
            if read:
                scorer.read_prompt(sample.key, layers)
            scorer.score([(sample.key, base)])
            scorer.close(sample.key)

        def decide(prompt: Tensor = features[0]) -> None:
            controller.choose(prompt)

        for name, work in (
            ("base forward", forward),
            ("with reading", partial(forward, read=True)),
            ("decision", decide),
        ):
            measured[name].append(_cost(work, options.repetitions))
    sums = {name: [sum(column) for column in zip(*rows, strict=True)] for name, rows in measured.items()}
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("", "MFLOP a question", "to base", "ms a question", "to base"):
        grid.add_column(heading, justify="right" if heading else "left")
    flops, base_seconds = sums["base forward"]
    for name, (own, took) in sums.items():
        count = options.questions
        grid.add_row(
            name,
            f"{own / count / 1e6:.1f}",
            f"{own / flops:.2%}",
            f"{1e3 * took / count:.2f}",
            f"{took / base_seconds:.2%}",
        )
    Console(highlight=False).print(grid)


def _cost(work: Callable[[], None], repetitions: int) -> tuple[float, float]:
    """Operations and the median of the seconds."""
    return count_flops(work), statistics.median(seconds(work) for _ in range(repetitions))


if __name__ == "__main__":
    Command(ControllerCostOptions, run, "What a controller costs beside its backbone.")("benchmarks.controller")
