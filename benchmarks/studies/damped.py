"""Damped loops (arXiv 2605.23872) and averaged ones (arXiv 2602.14759) against undamped chains, on the same questions.

A loop runs a block of layers F again: x <- x + a (F(x) - x). With a = 1 it is a repeat as chains have it. ``mean``
takes the mean of the states of all its turns instead. Training questions of nine tasks rank all loops; the best are
then compared on others. A killed run goes on.

    python -m benchmarks.studies.damped --questions 90 --others 450 --dtype float32 --output data/damped/loops.jsonl
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from benchmarks.studies.journal import Journal
from cola_learn import Chain, Question, load_backbone, load_task
from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.recording import Batch
from cola_learn.command import Command
from cola_learn.console import console, progress_bar
from cola_learn.label.score_matrix import Array
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.rewards.scores import OptionScores
from cola_learn.rewards.scoring import Scoring
from cola_learn.rewards.temperature import soft_reward, task_temperatures
from cola_learn.stats import p_value, paired_difference, points
from cola_learn.tasks.questions import as_sample

TASKS = (
    *("arc_easy:test", "arc_challenge:test", "openbookqa:test", "commonsense_qa:validation", "sciq:validation"),
    *("piqa:validation", "social_iqa:validation", "winogrande:validation", "mmlu:test"),
)


@dataclass(frozen=True)
class DampedOptions:
    """Options of the study.

    Attributes:
        backbone: as for label.
        dtype: as for label.
        questions: that rank the loops.
        others: questions that the best are compared on.
        best: how many loops, damped or averaged, are compared, beside the best undamped one.
        static: other chains to compare with.
        longest: most characters of a question.
        seed: of the draw of questions.
        output: journal; an unfinished one is gone on with.
    """

    backbone: str = "embedded"
    dtype: Dtype = "auto"
    questions: int = 120
    others: int = 600
    best: int = 3
    static: str = "0-17 20-29; 0-16 (17)x2 20-29"
    longest: int = 400
    seed: int = 0
    output: Path = Path("data/damped/loops.jsonl")


@dataclass(frozen=True)
class Loop:
    """Layers ``first`` to ``last``, run ``times`` times; ``share`` is the a of the update, 0 the mean of states."""

    first: int
    last: int
    times: int
    share: float

    def __str__(self) -> str:
        return f"({self.first}-{self.last})x{self.times} " + (f"a={self.share:g}" if self.share else "mean")


def loops(num_layers: int) -> list[Loop]:
    """Blocks of 1, 2 and 4 layers in the middle half of a model, twice and three times."""
    low, high = num_layers // 4, 3 * num_layers // 4
    blocks = [
        (start, start + length - 1)
        for length in (1, 2, 4)
        for start in range(low, high - length + 1, max(2, num_layers // 7))
    ]
    ways = [(2, 0.25), (2, 0.5), (2, 1.0), (3, 0.25), (3, 0.0)]
    return [Loop(*block, *way) for block, way in itertools.product(blocks, ways)]


class LoopExecutor(Executor):
    """Runs a loop in the place of whatever chain it is asked for, while it has one. What stands before a loop, and its
    first turn, are chains: the prefix cache keeps them for all loops of the block."""

    loop: Loop | None = None

    def run(self, requests: Sequence[tuple[int, Chain]], whole: bool = False) -> list[Tensor]:
        if self.loop is None:
            return super().run(requests, whole)
        return [self._looped(handle, self.loop) for handle, _ in requests]

    @torch.inference_mode()
    def _looped(self, handle: int, loop: Loop) -> Tensor:
        _, recording, wanted = self._rows[handle]
        batch, depth = Batch([recording], self.backbone.capabilities.packing), self.backbone.num_layers

        def layers(state: Tensor, first: int, last: int) -> Tensor:
            for layer in range(first, last + 1):
                state = self.backbone.run_rows(layer, [state], batch)[0]
            return state

        once = tuple(range(loop.last + 1))
        twice = (*once, *range(loop.first, loop.last + 1))
        asked = [(handle, Chain(each, depth)) for each in (once, twice)]
        state, after = super().run(asked, whole=True)
        turns = [state]
        for turn in range(1, loop.times):
            if turn > 1:
                after = layers(state, loop.first, loop.last)
            state = state + (loop.share or 1.0) * (after - state)
            turns.append(state)
        if not loop.share:
            state = torch.stack(turns).mean(0)
        return layers(state, loop.last + 1, depth - 1)[wanted]


def score(
    judge: OptionScorer, executor: LoopExecutor, question: Question, wanted: Sequence[Loop], chains: Sequence[Chain]
) -> list[OptionScores]:
    """Of the chains, then of the loops."""
    judge.open(as_sample(question))
    found = judge.score([(question.key, chain) for chain in chains])
    for executor.loop in wanted:
        found += judge.score([(question.key, Chain.base(judge.num_layers))])
    executor.loop = None
    judge.close(question.key)
    return found


def run_damped(options: DampedOptions) -> None:
    """Rank the loops, compare the best and print both."""
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    every = loops(backbone.num_layers)
    statics = [Chain.parse(text.strip(), backbone.num_layers) for text in options.static.split(";") if text.strip()]
    settings = {"fingerprint": backbone.fingerprint, "dtype": backbone.dtype_name, "seed": options.seed}
    journal = Journal(options.output, {**settings, "longest": options.longest, "questions": options.questions})
    questions = _drawn(options)
    executor = LoopExecutor(backbone)

    def measure(part: str, some: Sequence[Question], wanted: Sequence[Loop]) -> tuple[Array, Array]:
        """Soft rewards and rewards ``[Q, 1 + statics + loops]``."""
        done: dict[str, Any] = {one["question"]: one["scores"] for one in journal.parts if one["part"] == part}
        with progress_bar() as bar:
            task = bar.add_task(part, total=len(some), completed=len(done), unit="questions", note="")
            for question in some:
                if question.key in done:
                    continue
                metric = Scoring().of([question]).metric
                assert metric != "auto"
                judge = OptionScorer(executor, metric)
                scores = score(judge, executor, question, wanted, [Chain.base(backbone.num_layers), *statics])
                done[question.key] = [score.values for score in scores]
                journal.add({"part": part, "question": question.key, "scores": done[question.key]})
                bar.advance(task)
        gold = [question.gold for question in some]
        tasks = [question.task for question in some]
        heat = task_temperatures(tasks, gold, [done[question.key][0] for question in some])
        rows = [(question, [OptionScores(tuple(one)) for one in done[question.key]]) for question in some]
        soft = [[soft_reward(one, question.gold, heat[question.task]) for one in own] for question, own in rows]
        return numpy.array(soft), numpy.array([[one.reward(question.gold) for one in own] for question, own in rows])

    soft, _ = measure("rank", questions[: options.questions], every)
    names = ["base", *map(str, statics), *map(str, every)]
    gains = 100 * (soft - soft[:, :1])
    order = numpy.argsort(-gains.mean(0))
    console.print(
        f"{options.questions} questions, gain in log-probability of the right option, centinats (standard error)"
    )
    for place in order[:12]:
        error = gains[:, place].std() / len(gains) ** 0.5
        console.print(f"  {names[place]:24s} {gains[:, place].mean():+.2f} ({error:.2f})")
    ranked = [every[place - 1 - len(statics)] for place in order if place > len(statics)]
    damped = [loop for loop in ranked if loop.share < 1][: options.best]
    chosen = [*damped, next(loop for loop in ranked if loop.share == 1)]
    soft, rewards = measure("compare", questions[options.questions :], chosen)
    names = ["base", *map(str, statics), *map(str, chosen)]
    best_chain = 1 + int(soft[:, 1:].mean(0)[[*range(len(statics)), len(names) - 2]].argmax())
    best_chain = len(names) - 1 if best_chain > len(statics) else best_chain
    console.print(f"{len(rewards)} others: accuracy, points above base, and above {names[best_chain]}")
    for place, name in enumerate(names):
        to_base = paired_difference(list(rewards[:, place]), list(rewards[:, 0]), options.seed)
        to_chain = paired_difference(list(rewards[:, place]), list(rewards[:, best_chain]), options.seed)
        p = p_value(rewards[:, place], rewards[:, best_chain])
        soft_gain = 100 * (soft[:, place] - soft[:, 0]).mean()
        console.print(
            f"  {name:24s} {rewards[:, place].mean():.1%}  {points(to_base)}  {points(to_chain)} p {p:.3f}  "
            f"soft {soft_gain:+.2f}"
        )


def _drawn(options: DampedOptions) -> list[Question]:
    """Questions of all tasks in turn."""
    draws = random.Random(options.seed)
    piles = []
    for name in TASKS:
        task, split = name.split(":")
        fit = [one for one in load_task(task, split) if len(as_sample(one).prompt) <= options.longest]
        piles.append(draws.sample(fit, min(len(fit), options.questions + options.others)))
    mixed = [pile[place] for place in range(max(map(len, piles))) for pile in piles if place < len(pile)]
    return mixed[: options.questions + options.others]


if __name__ == "__main__":
    Command(DampedOptions, run_damped, "Damped and averaged loops against chains.")("benchmarks.studies.damped")
