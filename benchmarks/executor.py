"""The executor against other ways to run chains, side by side in one run: medians of several repetitions.

Chains are those that a real search of ARC-Easy test questions asks for. Run it with nothing else on the machine.

    python -m benchmarks.executor --json executor.json
"""

import json
import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.baselines import Pair, by_chain_group, per_chain, per_option, plain_model
from benchmarks.flips import Flips, both_margins
from cola_learn import (
    MCTS,
    Backbone,
    Chain,
    Executor,
    Plan,
    Question,
    Row,
    SearchSpace,
    as_sample,
    load_backbone,
    load_task,
)
from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.generate import Generator
from cola_learn.backbone.load import load_tokenizer
from cola_learn.command import Command
from cola_learn.console import progress_bar
from cola_learn.files import write_text
from cola_learn.label.driver import label_questions
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.rewards.scores import OptionScores

DEPTHS = (0.5, 0.75, 1.0, 1.25)


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of the benchmark.

    Attributes:
        model: embedded, or llama-3b: a random Llama of 28 layers and hidden size 3072, for a GPU.
        device: auto, cpu, cuda or cuda:1.
        dtype: precision of all but the float32 flips.
        trees: trees of the search that the baselines are held against; every tree is a question.
        simulations: of each of those trees.
        repeats: repetitions, of which medians are given.
        pairs: (question, chain) pairs that each baseline evaluates in a repetition.
        growth: numbers of trees for the table of growth.
        growth_simulations: of each of those trees.
        flip_questions: questions whose chains are scored again alone (benchmarks.flips does many).
        tokens: tokens that every generation writes.
        seed: of all draws.
        json: file for the numbers.
    """

    model: Literal["embedded", "llama-3b"] = "embedded"
    device: str = "auto"
    dtype: Dtype = "auto"
    trees: int = 64
    simulations: int = 16
    repeats: int = 3
    pairs: int = 48
    growth: list[int] = field(default_factory=lambda: [1, 8, 64, 256])
    growth_simulations: int = 8
    flip_questions: int = 8
    tokens: int = 48
    seed: int = 0
    json: Path | None = None


class _Recorded(OptionScorer):
    """A scorer that remembers what it was asked, round by round, and how many positions went through the head."""

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self.rounds: list[list[tuple[str, Chain]]] = []
        self.positions = 0

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[OptionScores]:
        self.rounds.append(list(requests))
        self.positions += sum(len(row.wanted) for key, _ in requests for row in self.rows(key))
        return super().score(requests)


@dataclass(frozen=True)
class _Search:
    """One search: what it asked for, what it found and what it cost."""

    scorer: _Recorded
    answers: dict[tuple[str, Chain], float]
    seconds: float

    @property
    def rate(self) -> float:
        return self.scorer.executor.counters.requests / self.seconds


def search(backbone: Backbone, questions: Sequence[Question], simulations: int, seed: int) -> _Search:
    scorer = _Recorded(Executor(backbone))
    plan = Plan(MCTS(simulations), seed=seed, luck=False, neighbours=0)
    start = time.perf_counter()
    rounds = list(label_questions(scorer, questions, plan, trees=len(questions)))
    seconds = time.perf_counter() - start
    found = [(question.key, label) for finished in rounds for question, label in finished]
    return _Search(
        scorer, {(key, trial.chain): trial.reward for key, label in found for trial in label.trials}, seconds
    )


def speedups(backbone: Backbone, questions: list[Question], options: BenchmarkOptions, step: Any) -> dict[str, float]:
    """Evaluations a second of a search against those of the baselines on a part of its pairs."""
    by_key = {question.key: question for question in questions}
    plain = plain_model(backbone)
    ways: dict[str, Callable[[Any, Any, Sequence[Pair]], list[int]]] = {
        "speedup_per_option": per_option,
        "speedup_per_chain": per_chain,
        "speedup_by_chain_group": by_chain_group,
    }
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    shares, rates, same, compared = [], [], 0, 0
    for repeat in range(options.repeats):
        step(f"search, {repeat + 1} of {options.repeats}")
        ours = search(backbone, questions, options.simulations, options.seed)
        rates.append(ours.rate)
        shares.append(ceiling_share(backbone, ours))
        draw = random.Random(options.seed + repeat)
        for name, answer in ways.items():
            step(f"{name.removeprefix('speedup_').replace('_', ' ')}, {repeat + 1} of {options.repeats}")
            asked = draw.sample(list(ours.answers), min(options.pairs, len(ours.answers)))
            if answer is by_chain_group:  # whole rounds: within one, trees may ask for the same chain
                asked = draw.choice(ours.scorer.rounds[1:-1])
            start = time.perf_counter()
            answers = answer(plain, backbone.tokenizer, [(as_sample(by_key[key]), chain) for key, chain in asked])
            theirs = len(asked) / (time.perf_counter() - start)
            ratios[name].append(ours.rate / theirs)
            pairs = zip(asked, answers, strict=True)
            same += sum(ours.answers[pair] == float(found == by_key[pair[0]].gold) for pair, found in pairs)
            compared += len(asked)
    counters = ours.scorer.executor.counters
    shared = ours.scorer.usage.shares()
    return {
        "evaluations_per_second": statistics.median(rates),
        **{name: statistics.median(found) for name, found in ratios.items()},
        "same_reward": same / compared,
        "matmul_ceiling_share": statistics.median(shares),
        "layers_saved": shared["layers_saved"],
        "cache_hit_rate": shared["cache_hit_rate"],
        "padding_share": shared["padding"],
        "tokens_per_call": counters.tokens / counters.calls,
    }


def ceiling_share(backbone: Backbone, ours: Any) -> float:
    """Floating-point operations of the layers and the head that ran, a second, over those of plain products of the
    same matrices with as many rows as a call had on average. Attention's own products are left out of both.
    """
    counters = ours.scorer.executor.counters
    layers = [
        [module.weight for module in layer.modules() if isinstance(module, nn.Linear)] for layer in backbone.layers
    ]
    head = backbone.model.get_output_embeddings().weight
    layer_size = sum(weight.numel() for weight in layers[0])
    done = 2 * (counters.tokens - counters.padding) * layer_size + 2 * ours.scorer.positions * head.numel()
    rows = round(counters.tokens / counters.calls)
    inputs = {
        size: torch.randn(rows, size, device=head.device, dtype=head.dtype)
        for size in {weight.shape[1] for weights in layers for weight in weights}
    }

    def products() -> None:
        for weights in layers:
            for weight in weights:
                torch.matmul(inputs[weight.shape[1]], weight.T)

    rate = 2 * rows * layer_size * len(layers) / measured(products, 5)
    return done / ours.seconds / rate


def measured(work: Callable[[], object], repeats: int) -> float:
    """Median seconds, once warm."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def wait() -> None:
    """Until a GPU has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def growth(backbone: Backbone, options: BenchmarkOptions, step: Any) -> dict[str, dict[str, float]]:
    """Evaluations a second by the number of trees and, for 16 rows with eight chains each, by prompt tokens."""
    questions = load_task("arc_easy", "test", max(options.growth), options.seed)
    trees = {}
    for count in options.growth:
        step(f"{count} trees")
        trees[str(count)] = search(backbone, questions[:count], options.growth_simulations, options.seed).rate
    tokens = {}
    draw, space, base = random.Random(options.seed), SearchSpace(), Chain.base(backbone.num_layers)
    chains = [space.apply(base, edit) for edit in draw.sample(list(space.legal_edits(base)), 8)]
    for length in (32, 128, 512):
        step(f"prompts of {length} tokens")
        executor = Executor(backbone)
        ids = torch.randint(3, 1000, (16, length), generator=torch.Generator().manual_seed(0)).tolist()
        handles = [executor.open(Row.plain(row, wanted=[length - 1])) for row in ids]
        start = time.perf_counter()
        for chain in chains:
            executor.run([(handle, chain) for handle in handles])
        wait()
        tokens[str(length)] = 16 * len(chains) / (time.perf_counter() - start)
    return {"evaluations_per_second_by_trees": trees, "evaluations_per_second_by_prompt_tokens": tokens}


def generation(backbone: Backbone, options: BenchmarkOptions, step: Any) -> dict[str, dict[str, float]]:
    """Seconds for a continuation through chains of several depths over those of the model's own ``generate``."""
    prompt = backbone.tokenizer.encode("Once upon a time there was a fox who lived at the edge of a great forest")
    backbone.model.generation_config.eos_token_id = [backbone.model.config.vocab_size - 1]  # nobody ends early
    inputs = torch.tensor([prompt], device=backbone.device)
    model = plain_model(backbone)
    number = backbone.num_layers

    def plain() -> None:
        model.generate(
            inputs, max_new_tokens=options.tokens, min_new_tokens=options.tokens, do_sample=False, pad_token_id=0
        )

    def through(layers: Sequence[int]) -> None:
        Generator(backbone).generate([prompt], [Chain(tuple(layers), number)], options.tokens)

    seconds: dict[str, list[float]] = {}
    chains: dict[str, list[int]] = {}
    for share in DEPTHS:
        depth, first = round(share * number), number // 4
        extra = depth - number
        # one block is skipped, or runs twice
        chains[f"{share:.0%}"] = [*range(first + max(0, extra)), *range(first + max(0, -extra), number)]
    for repeat in range(options.repeats + 1):
        step(f"generation, {repeat + 1} of {options.repeats + 1}")
        for name, work in [("plain", plain), *((name, lambda c=c: through(c)) for name, c in chains.items())]:
            start = time.perf_counter()
            work()
            if repeat:  # the first warms up
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "generation_time_ratio": {name: medians[name] / medians["plain"] for name in chains},
        "tokens_per_second": {name: options.tokens / each for name, each in medians.items()},
    }


def flips(backbone: Backbone, options: BenchmarkOptions, step: Any) -> Flips:
    step(f"flips, {backbone.dtype_name}")
    questions = load_task("arc_easy", "test", options.flip_questions, options.seed)
    pairs = [pair for _, found in both_margins(backbone, questions, 24, options.seed) for pair in found]
    return Flips.of(pairs)


def random_llama(device: str, dtype: Dtype) -> Backbone:
    """A Llama of the 3B shape with random weights and the embedded model's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from cola_learn import assets

    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=4096,
    )
    place = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    number_type = {"float32": torch.float32, "float16": torch.float16}.get(dtype, torch.bfloat16)
    torch.manual_seed(0)
    with torch.device(place):
        model = LlamaForCausalLM._from_config(config, dtype=number_type)
    return Backbone(model, load_tokenizer(assets.DEFAULT), "llama-3b")


def run_benchmark(options: BenchmarkOptions) -> None:
    """Measure everything, print the table, write the numbers."""

    def load(dtype: Dtype) -> Backbone:
        if options.model == "embedded":
            return load_backbone(device=options.device, dtype=dtype)
        return random_llama(options.device, dtype)

    backbone = load(options.dtype)
    questions = load_task("arc_easy", "test", options.trees, options.seed)
    with progress_bar() as bar:
        steps = 5 * options.repeats + len(options.growth) + 6
        task = bar.add_task("benchmark", total=steps, unit="steps", note="")

        def step(note: str) -> None:
            bar.update(task, note=note)
            bar.advance(task)

        found: dict[str, Any] = {"device": device_name(backbone), "dtype": backbone.dtype_name}
        found |= speedups(backbone, questions, options, step)
        found["peak_memory_gib"] = peak_memory(backbone)
        found |= growth(backbone, options, step)
        found |= generation(backbone, options, step)
        found["flip_rate_bf16"] = flips(load("bfloat16"), options, step).rate
        found["flip_rate_fp32"] = flips(load("float32"), options, step).rate
    print_table(found)
    if options.json:
        write_text(options.json, json.dumps(found, indent=2) + "\n")


def device_name(backbone: Backbone) -> str:
    if backbone.device.type == "cuda":
        return torch.cuda.get_device_name(backbone.device)
    return f"{torch.get_num_threads()} CPU threads, {torch.backends.cpu.get_cpu_capability()}"


def peak_memory(backbone: Backbone) -> float:
    if backbone.device.type == "cuda":
        return torch.cuda.max_memory_allocated(backbone.device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def print_table(found: dict[str, Any]) -> None:
    table = Table("measure", "value", box=None)
    for name, value in found.items():
        if isinstance(value, dict):
            for key, each in value.items():
                table.add_row(f"{name.replace('_', ' ')}, {key}", f"{each:.3g}")
        else:
            table.add_row(name.replace("_", " "), value if isinstance(value, str) else f"{value:.4g}")
    Console().print(table)


if __name__ == "__main__":
    Command(BenchmarkOptions, run_benchmark, "Measure what the executor achieves.")("benchmarks.executor")
