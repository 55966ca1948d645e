"""Cost of an answer through a controller: wall time of ``generate`` against the plain model's, in one run.

The ratio of times stands beside the ratio of layers, which is what it would be if choosing and switching were free.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cola_learn import ColaForCausalLM, apply_chain, load_task
from cola_learn.command import Command
from cola_learn.console import PlainConsole, progress_bar

_TIMES = 20


@dataclass(frozen=True)
class Options:
    """Options of python -m benchmarks.serving.

    Attributes:
        controller: folder or hub id of an exported controller.
        questions: ARC-Easy validation questions that are answered.
        new_tokens: that each answer has.
        repeats: how often; plain and chosen chains take turns.
        price: of depth; default the controller's own.
    """

    controller: str = "checkpoints/menu"
    questions: int = 16
    new_tokens: int = 32
    repeats: int = 3
    price: float | None = None


def run(options: Options) -> None:
    """Print, for batches of 1 and 16, seconds an answer and both ratios."""
    model = ColaForCausalLM.from_pretrained(options.controller, dtype=torch.float32)
    texts = [
        f"Question: {question.text}\nAnswer:" for question in load_task("arc_easy", "validation", options.questions)
    ]
    chains = [model.choose(text, options.price) for text in texts]
    layers = statistics.mean(chain.depth / chain.num_layers for chain in chains)
    console = PlainConsole()
    console.print(f"{len(set(chains))} chains for {len(texts)} questions; layers {layers:.1%} of the plain model's")
    console.print(_of_applying(model, [str(chain) for chain in dict.fromkeys(chains)]))
    settings: dict[str, Any] = {
        "max_new_tokens": options.new_tokens,
        "min_new_tokens": options.new_tokens,
        "do_sample": False,
    }
    for size in (1, 16):
        groups = [texts[start : start + size] for start in range(0, len(texts), size)]
        batches = [model.tokenizer(some, return_tensors="pt", padding=True, padding_side="left") for some in groups]

        def plain(batches: list[Any] = batches) -> None:
            for batch in batches:
                model.backbone.generate(**batch, **settings)

        def chosen(batches: list[Any] = batches) -> None:
            for batch in batches:
                model.generate(**batch, price=options.price, **settings)

        def choosing(batches: list[Any] = batches) -> None:
            for batch in batches:
                model.choose_chains(batch["input_ids"], batch["attention_mask"], options.price)

        times: dict[str, list[float]] = {"plain": [], "chosen": [], "choosing": []}
        with progress_bar() as bar:
            task = bar.add_task(f"batch {size}", total=options.repeats, unit="rounds", note="")
            for _ in range(options.repeats):
                for name, work in (("plain", plain), ("chosen", chosen), ("choosing", choosing)):
                    times[name].append(_seconds(work))
                bar.advance(task)
        best = {name: min(found) / len(texts) for name, found in times.items()}
        console.print(
            f"batch {size:2}: plain {best['plain']:.3f} s an answer, through the controller {best['chosen']:.3f} s "
            f"({best['chosen'] / best['plain']:.1%}; choosing {best['choosing'] / best['plain']:.1%})"
        )


def _of_applying(model: ColaForCausalLM, chains: list[str]) -> str:
    """What it takes to apply a chain, beside a step of the plain model on one token."""

    def applied() -> None:
        for chain in chains * _TIMES:
            with apply_chain(model.backbone, chain):
                pass

    token = torch.tensor([[1]])
    cache = model.backbone(token, use_cache=True).past_key_values

    def steps() -> None:
        for _ in range(_TIMES):
            model.backbone(token, past_key_values=cache, use_cache=True)

    with torch.no_grad():
        applying, step = min(_seconds(applied) for _ in range(3)), min(_seconds(steps) for _ in range(3))
    each = applying / len(chains) / _TIMES
    return f"applying a chain takes {1e3 * each:.2f} ms, {each / (step / _TIMES):.1%} of a step of the plain model"


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    Command(Options, run, "Time of answers through a controller beside the plain model's.")("benchmarks.serving")
