"""Writing answers through the chains of a search: ``Generator`` against transformers' ``generate`` under
``apply_chains``, side by side in one run.

    python -m benchmarks.generation --questions 8 --rounds 12
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cola_learn.backbone.apply_chain import apply_chains
from cola_learn.backbone.beginning import padded
from cola_learn.backbone.dtypes import Dtype
from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.console import console
from cola_learn.label.store import LabelStore
from cola_learn.rewards.answer_judges import AnswerWriter
from cola_learn.tasks.questions import as_sample

Requests = list[tuple[str, Chain]]


@dataclass(frozen=True)
class GenerationOptions:
    """Options of python -m benchmarks.generation.

    Attributes:
        labels: of open questions; their searches say which chains are asked for together.
        questions: that are searched at a time.
        rounds: of the searches, each of one chain a question.
        dtype: precision.
    """

    labels: Path = Path("data/labels/dart_math_1-both")
    questions: int = 8
    rounds: int = 12
    dtype: Dtype = "auto"


def run_generation(options: GenerationOptions) -> None:
    """Print seconds and how many answers agree."""
    store = LabelStore.open(options.labels)
    backbone = store.manifest.load_backbone("--labels", None, "auto", options.dtype)
    prompt, tokenizer = store.manifest.scoring.prompt, backbone.tokenizer
    labels, questions = store.read()[: options.questions], store.questions()
    writer = AnswerWriter(backbone, prompt)
    for label in labels:
        writer.open(as_sample(questions[label.key]))
    seconds, same = [0.0, 0.0], 0
    for number in range(options.rounds):
        requests = [(label.key, label.trials[number].chain) for label in labels]
        start = time.perf_counter()
        ours = writer.write(requests)
        between = time.perf_counter()
        ids, mask = padded([torch.tensor(writer.tokens(key)) for key, _ in requests])
        with torch.inference_mode(), apply_chains(backbone.model, [chain for _, chain in requests]) as model:
            found = model.generate(ids, attention_mask=mask, max_new_tokens=prompt.max_new_tokens, do_sample=False)
        theirs = [tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True) for row in found]
        seconds = [seconds[0] + between - start, seconds[1] + time.perf_counter() - between]
        same += sum(prompt.answer_in(one) == prompt.answer_in(other) for one, other in zip(ours, theirs, strict=True))
    ratio, count = seconds[1] / seconds[0], options.rounds * len(labels)
    console.print(
        f"{count} answers of up to {prompt.max_new_tokens} tokens, {backbone.dtype_name}: ours {seconds[0]:.0f} s, "
        f"transformers {seconds[1]:.0f} s, {ratio:.2f} times as long; {same} answers are the same"
    )


if __name__ == "__main__":
    Command(GenerationOptions, run_generation, "Time writing through chains both ways.")("benchmarks.generation")
