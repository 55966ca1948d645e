"""How far greedy text through the chains that policies chose is the plain model's own, on held-out prompts.

Up to where two greedy texts part they are the same, so one teacher-forced pass over the plain model's text tells where.

    python -m benchmarks.studies.agreement --evaluation runs/texts/evaluate --prompts 3
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import numpy
import pyarrow.parquet
import torch
from rich.table import Table
from torch import Tensor

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.load import load_backbone
from cola_learn.backbone.rows import Row
from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.console import PlainConsole, progress_bar
from cola_learn.label.score_matrix import Array, open_stores
from cola_learn.stats import paired_difference
from cola_learn.tasks.questions import as_sample


@dataclass(frozen=True)
class AgreementOptions:
    """Options of python -m benchmarks.studies.agreement.

    Attributes:
        evaluation: folder of an evaluation of held-out prompts with stored scores.
        held: the stores that it was of.
        policies: beginnings of the names of those that are compared.
        prompts: of each task.
        tokens: of the plain model's text.
    """

    evaluation: Path = Path("runs/texts/evaluate")
    held: Path = Path("data/texts/held")
    policies: list[str] = field(default_factory=lambda: ["base", "controller", "static_2"])
    prompts: int = 3
    tokens: int = 32


def run_agreement(options: AgreementOptions) -> None:
    """Print a row for each policy."""
    stores = open_stores(options.held, "--held")
    backbone = load_backbone(stores[0].manifest.model.name, dtype="float32")
    rows = pyarrow.parquet.read_table(options.evaluation / "questions.parquet").to_pylist()
    chains: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row["chain"] and row["policy"].startswith(tuple(options.policies)):
            chains[row["question"]][row["policy"]] = row["chain"]
    prompts = [
        (key, backbone.encoder.prompt(as_sample(question).prompt))
        for store in stores
        for key, question in list(store.questions().items())[: options.prompts]
    ]
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    with progress_bar() as bar:
        task = bar.add_task("agreement", total=len(prompts), unit="prompts", note="")
        for key, prompt in prompts:
            own = {name: Chain.parse(chain, backbone.num_layers) for name, chain in chains[key].items()}
            for name, alike in _alike(backbone, prompt, own, options.tokens).items():
                until = options.tokens if alike.all() else int(alike.to(torch.int).cumprod(0).sum())
                found[name].append((own[name].depth, until, float(alike.all()), float(alike.double().mean())))
            bar.advance(task)
    same = f"same {options.tokens} tokens"
    table = Table("policy", "layers", "tokens until they part", same, "tokens accepted", box=None)
    measured = {name: numpy.array(each, dtype=float).T for name, each in found.items()}  # depth and measures, [4, Q]
    for name, each in measured.items():
        table.add_row(name, *_shown(each))
        if not _is_fixed(name) and (front := _front(measured, each[0].mean())) is not None:
            table.add_row("  static front", *_shown(front))
    PlainConsole(width=140).print(table)
    print(f"{len(prompts)} prompts, float32; the last two in %; 95% intervals")


@torch.inference_mode()
def _alike(backbone: Backbone, prompt: list[int], chains: dict[str, Chain], count: int) -> dict[str, Tensor]:
    """Whether each chain predicts the tokens of the plain model's greedy text, ``[T]`` by name."""
    ids = torch.tensor([prompt])
    settings = {"max_new_tokens": count, "do_sample": False}
    whole = backbone.model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0]
    executor = Executor(backbone)
    handle = executor.open(Row.plain(whole[:-1].tolist(), wanted=range(len(prompt) - 1, len(whole) - 1)))
    states = executor.run([(handle, chain) for chain in chains.values()])
    written = whole[len(prompt) :]
    return {name: backbone.logits(one).argmax(-1) == written for name, one in zip(chains, states, strict=True)}


def _is_fixed(name: str) -> bool:
    return name == "base" or re.fullmatch(r"static_\d+", name) is not None


def _front(measured: dict[str, Array], depth: float) -> Array | None:
    """What the random mixture of two static chains, or of one and the plain model, makes of a mean depth whose text is
    the plain model's for longest."""
    fixed = [each for name, each in measured.items() if _is_fixed(name)]
    mixed = []
    for low, high in permutations(fixed, 2):
        if low[0, 0] <= depth <= high[0, 0] and low[0, 0] < high[0, 0]:
            share = (depth - low[0, 0]) / (high[0, 0] - low[0, 0])
            mixed.append((1 - share) * low + share * high)
    return max(mixed, key=lambda each: float(each[1].mean()), default=None)


def _shown(each: Array) -> tuple[str, ...]:
    """Mean depth, and the means of the measures with their intervals."""
    cells = [f"{each[0].mean():.1f}"]
    for values, scale, digits in zip(each[1:], (1, 100, 100), (1, 0, 0), strict=True):
        interval = paired_difference(values, numpy.zeros_like(values))
        mean, low, high = (f"{scale * one:.{digits}f}" for one in (interval.mean, interval.low, interval.high))
        cells.append(f"{mean} ({low}, {high})")
    return tuple(cells)


if __name__ == "__main__":
    Command(AgreementOptions, run_agreement, "How far greedy text through chosen chains is the plain model's own.")(
        "benchmarks.studies.agreement"
    )
