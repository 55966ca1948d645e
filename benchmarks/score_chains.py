"""Chain scoring against one Hugging Face forward per chain and option, side by side in one run.

Both score the (question, chain) pairs that a real search asks for, on ARC-Easy with the embedded model. The
reference rebuilds the model's list of layers for each chain and runs every option by itself.

    python benchmarks/score_chains.py --json speed.json
"""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from cola_learn import (
    Backbone,
    Chain,
    Executor,
    Question,
    Sample,
    Scorer,
    SearchSettings,
    SearchSpace,
    as_sample,
    load_backbone,
    load_task,
)
from cola_learn.backbone.load import Dtype
from cola_learn.cli import progress_bar, run_command
from cola_learn.label.driver import Job, search_jobs

Pair = tuple[Question, Chain]


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of the benchmark.

    Attributes:
        questions: ARC-Easy test questions to search.
        simulations: of each search.
        pairs_bf16: how many of the search's pairs the reference scores in bfloat16.
        pairs_fp32: and in float32.
        seed: of the draws.
        json: file for speedup, agreement_bf16 and agreement_fp32.
    """

    questions: int = 48
    simulations: int = 32
    pairs_bf16: int = 400
    pairs_fp32: int = 200
    seed: int = 0
    json: Path | None = None


def reference_reward(backbone: Backbone, sample: Sample, chain: Chain, gold: int) -> float:
    """Reward by plain forwards of the model with its layer list rebuilt, one an option."""
    inner, layers = backbone.model.model, backbone.layers
    inner.layers = nn.ModuleList([layers[layer] for layer in chain.layers])
    backbone.model.config.num_hidden_layers = chain.depth
    totals = []
    for context, continuation in zip(sample.contexts, sample.continuations, strict=True):
        tokens = backbone.tokenizer.encode(context + continuation, add_special_tokens=False)
        start = len(backbone.tokenizer.encode(context, add_special_tokens=False))
        with torch.inference_mode():
            logits = backbone.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()
        scored = logits[start - 1 : -1].log_softmax(-1)
        totals.append(float(scored.gather(1, torch.tensor(tokens[start:])[:, None]).double().sum()))
    inner.layers = layers
    backbone.model.config.num_hidden_layers = len(layers)
    return float(totals.index(max(totals)) == gold)


def compare(dtype: Dtype, pairs: int, options: BenchmarkOptions) -> tuple[float, float, float, int]:
    """Pairs a second of the search and of the reference, share of equal rewards, number of pairs compared."""
    backbone = load_backbone(dtype=dtype)
    questions = load_task("arc_easy", "test", options.questions, options.seed)
    settings = SearchSettings(simulations=options.simulations)
    jobs = [Job.for_gold(question) for question in questions]
    scorer = Scorer(Executor(backbone))
    start = time.perf_counter()
    with progress_bar() as bar:
        total = len(jobs) * options.simulations
        task = bar.add_task(f"search, {backbone.dtype_name}", total=total, unit="chains", note="")
        count = partial(bar.advance, task)
        rounds = list(search_jobs(scorer, jobs, SearchSpace(), settings, seed=options.seed, on_round=count))
    ours = scorer.executor.counters.requests / (time.perf_counter() - start)
    rewards = {
        (job.question.key, trial.chain): trial.reward
        for finished in rounds
        for job, label in finished
        for trial in label.trials
    }
    by_key = {question.key: question for question in questions}
    drawn = random.Random(options.seed).sample(list(rewards), min(pairs, len(rewards)))
    theirs, same = _reference(backbone, [(by_key[key], chain) for key, chain in drawn], rewards)
    return ours, theirs, same, len(drawn)


def _reference(
    backbone: Backbone, pairs: Sequence[Pair], rewards: dict[tuple[str, Chain], float]
) -> tuple[float, float]:
    samples = {question.key: as_sample(question) for question, _ in pairs}
    same = 0
    start = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task(f"reference, {backbone.dtype_name}", total=len(pairs), unit="pairs", note="")
        for question, chain in pairs:
            reward = reference_reward(backbone, samples[question.key], chain, question.gold)
            same += reward == rewards[question.key, chain]
            bar.advance(task)
    return len(pairs) / (time.perf_counter() - start), same / len(pairs)


def run_benchmark(options: BenchmarkOptions) -> None:
    table = Table("precision", "search, pairs/s", "reference, pairs/s", "speed-up", "same reward", box=None)
    found: dict[str, float] = {}
    for dtype, pairs in (("bfloat16", options.pairs_bf16), ("float32", options.pairs_fp32)):
        ours, theirs, same, count = compare(dtype, pairs, options)  # type: ignore[arg-type]
        table.add_row(dtype, f"{ours:.1f}", f"{theirs:.2f}", f"{ours / theirs:.1f}x", f"{same:.1%} of {count}")
        short = "bf16" if dtype == "bfloat16" else "fp32"
        found |= {f"speedup_{short}": ours / theirs, f"agreement_{short}": same}
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps({"speedup": found["speedup_bf16"], **found}, indent=2) + "\n")


if __name__ == "__main__":
    run_command(BenchmarkOptions, run_benchmark, "benchmarks.score_chains", "Measure the speed of chain scoring.")
