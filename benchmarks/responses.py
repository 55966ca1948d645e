"""Likelihoods of responses through chains: the judge against one forward pass of transformers for each chain, side by
side in one run. Run it with nothing else on the machine.

    python -m benchmarks.responses
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch

from benchmarks.executor import ceiling_share
from cola_learn.backbone.apply_chain import apply_chain
from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.load import load_backbone
from cola_learn.command import Command
from cola_learn.rewards.response_judge import MOST_TOKENS, ResponseJudge
from cola_learn.search.listed import read_menu
from cola_learn.tasks.load_task import load_task, task_and_split
from cola_learn.tasks.questions import as_sample


@dataclass(frozen=True)
class ResponseOptions:
    """Options of python -m benchmarks.responses.

    Attributes:
        menu: file of chains.
        tasks: of prompts with responses, task:split.
        prompts: of each task, all measured together.
        backbone: whose layers run.
        dtype: precision.
    """

    menu: Path = Path("data/texts/menu.txt")
    tasks: list[str] = field(
        default_factory=lambda: [f"text_{name}:train" for name in ("python", "gsm8k", "news", "geometry")]
    )
    prompts: int = 4
    backbone: str = "embedded"
    dtype: Dtype = "auto"


@torch.inference_mode()
def run_responses(options: ResponseOptions) -> None:
    """Print evaluations a second, their ratio, the share of the matrix ceiling, and the largest difference."""
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    chains = read_menu(options.menu, backbone.num_layers)
    named = map(task_and_split, options.tasks)
    questions = [one for task, split in named for one in load_task(task, split, options.prompts)]
    judge = ResponseJudge(Executor(backbone))
    for question in questions:
        judge.open(as_sample(question))
    start = time.perf_counter()
    ours = [judge.score([(question.key, chain) for question in questions]) for chain in chains]
    seconds = time.perf_counter() - start
    encoder, model = backbone.encoder, backbone.model
    apart, theirs, positions = 0.0, 0.0, 0
    for row, question in enumerate(questions):
        sample = as_sample(question)
        prompt = encoder.prompt(sample.prompt)
        tokens = torch.tensor(
            [encoder.pair(sample.contexts[0], sample.continuations[0])[0][: len(prompt) + MOST_TOKENS]]
        )
        targets = tokens[0, len(prompt) :, None]
        positions += len(targets) * (len(chains) + 1)
        for place, chain in enumerate(chains[:: max(1, len(chains) // 8)]):
            with apply_chain(model, chain):
                begin = time.perf_counter()
                logits = model(tokens[:, :-1], use_cache=False, logits_to_keep=len(targets)).logits[0].float()
                logprob = float(logits.log_softmax(-1).gather(-1, targets).mean())
                theirs += time.perf_counter() - begin
            mine = ours[place * max(1, len(chains) // 8)][row].logprob
            apart = max(apart, abs(logprob - mine))
    count = len(questions) * len(chains[:: max(1, len(chains) // 8)])
    rate, plain = len(questions) * len(chains) / seconds, count / theirs
    scorer = SimpleNamespace(executor=judge.executor, positions=positions)
    share = ceiling_share(backbone, SimpleNamespace(scorer=scorer, seconds=seconds))
    print(f"{len(questions)} prompts, {len(chains)} chains, {backbone.dtype_name}, {torch.get_num_threads()} threads")
    print(f"{rate:.1f} evaluations a second, {rate / plain:.2f} times one forward pass for each chain ({plain:.1f})")
    print(f"{share:.0%} of the matrix ceiling; log-probabilities differ by at most {apart:.4f} nats a token")


if __name__ == "__main__":
    Command(ResponseOptions, run_responses, "Likelihoods of responses, against one forward pass for each chain.")(
        "benchmarks.responses"
    )
