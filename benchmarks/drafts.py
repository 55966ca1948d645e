"""What chains write beside the plain model, and what they are worth as drafts: how far greedy texts agree, and tokens a
second of the plain model's own text with drafts by a chain, as a ratio to without, at batch 1.

    python -m benchmarks.drafts --prompts 12
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from rich.table import Table

from cola_learn.backbone.apply_chain import apply_chain
from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.console import PlainConsole, progress_bar
from cola_learn.infer.apart import generate_drafted
from cola_learn.search.listed import read_menu
from cola_learn.tasks.load_task import load_task, task_and_split
from cola_learn.tasks.questions import as_sample


@dataclass(frozen=True)
class DraftOptions:
    """Options of python -m benchmarks.drafts.

    Attributes:
        menu: file of chains.
        tasks: of prompts with responses, task:split.
        prompts: of each task.
        tokens: written for each.
        backbone: whose layers run.
        dtype: precision.
    """

    menu: Path = Path("data/texts/menu.txt")
    tasks: list[str] = field(
        default_factory=lambda: [f"text_{name}:validation" for name in ("python", "gsm8k", "news", "novels")]
    )
    prompts: int = 4
    tokens: int = 32
    backbone: str = "embedded"
    dtype: Dtype = "auto"


def run_drafts(options: DraftOptions) -> None:
    """Print a row for each chain: tokens until its text parts from the plain model's, the share of prompts whose texts
    are equal, and the speed of drafting."""
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    named = map(task_and_split, options.tasks)
    questions = [one for task, split in named for one in load_task(task, split, options.prompts)]
    prompts = [torch.tensor([backbone.encoder.prompt(as_sample(one).prompt)]) for one in questions]
    settings = {"max_new_tokens": options.tokens, "min_new_tokens": options.tokens, "do_sample": False}
    model, base = backbone.model, Chain.base(backbone.num_layers)
    chains = [base, *(chain for chain in read_menu(options.menu, base.num_layers) if chain != base)]
    table = Table("chain", "layers", "tokens until they part", "equal texts", "drafting, tokens/s to plain", box=None)
    plain: list[list[int]] = []
    seconds = 0.0
    with progress_bar() as bar, torch.inference_mode():
        task = bar.add_task("drafts", total=len(chains) * len(prompts), unit="prompts", note="")
        for chain in chains:
            parts, drafting = list[int](), 0.0
            for place, ids in enumerate(prompts):
                asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **settings}
                with apply_chain(model, chain):
                    start = time.perf_counter()
                    own = model.generate(**asked)[0, ids.shape[1] :].tolist()
                    seconds += (time.perf_counter() - start) * chain.is_base
                if chain.is_base:
                    plain.append(own)
                else:
                    start = time.perf_counter()
                    drafted = generate_drafted(model, [chain], asked, model.generation_config)
                    drafting += time.perf_counter() - start
                    assert drafted[0, ids.shape[1] :].tolist() == plain[place] or backbone.dtype_name != "float32"
                pairs = enumerate(zip(own, plain[place], strict=True))
                parts.append(next((at for at, (one, other) in pairs if one != other), options.tokens))
                bar.advance(task)
            speed = "" if chain.is_base else f"{seconds / drafting:.2f}"
            same = fmean(part == options.tokens for part in parts)
            table.add_row(str(chain), str(chain.depth), f"{fmean(parts):.1f}", f"{same:.0%}", speed)
    PlainConsole(width=140).print(table)
    print(f"{len(prompts)} prompts, {options.tokens} tokens each, {backbone.dtype_name}, batch 1")


if __name__ == "__main__":
    Command(DraftOptions, run_drafts, "What chains write beside the plain model, and what drafts by them are worth.")(
        "benchmarks.drafts"
    )
