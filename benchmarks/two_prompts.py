"""Do chains that answer an open question rightly do so under another prompt?

Sums that the plain model answers wrongly are searched under one prompt, for the right answer and, as the luck control,
for a wrong one. All that is found is run under a second prompt, with which it may agree, and under a third, on which
both are judged. A killed run goes on.

    python -m benchmarks.two_prompts --output data/wordings/sums.jsonl
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from benchmarks.journal import Journal
from benchmarks.wordings import TOGETHER, answered_wrongly
from cola_learn import Chain, Question, load_backbone, load_task
from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.options import Dtype
from cola_learn.command import Command
from cola_learn.console import console
from cola_learn.intervals import paired_difference, points
from cola_learn.label.driver import label_questions
from cola_learn.label.methods import MCTS
from cola_learn.label.plan import Plan
from cola_learn.tasks.judges import make_judge, score_questions
from cola_learn.tasks.prompts import Example, Prompt
from cola_learn.tasks.scoring import Scoring


def _prompt(ask: str, begin: str) -> Prompt:
    """Plain text with worked examples, which small models follow best."""
    examples = (
        Example("What is 3 plus 4?", "7"),
        Example("Calculate 30 - 12.", "18"),
    )
    return Prompt(ask, begin, end="\n", chat=False, examples=examples)


PROMPTS = (
    _prompt("Problem: {question}", "Answer:"),
    _prompt("Q: {question}", "A:"),
    _prompt("Work this out.\n{question}", "The result is"),
)


@dataclass(frozen=True)
class TwoPromptsOptions:
    """Options of the study.

    Attributes:
        backbone: as for label.
        dtype: as for label.
        tasks: whose test questions are searched.
        questions: of each task that the plain model answers wrongly under the first prompt.
        simulations: of each search.
        seed: of the draw and of the searches.
        output: journal; an unfinished one is gone on with.
    """

    backbone: str = "embedded"
    dtype: Dtype = "auto"
    tasks: list[str] = field(default_factory=lambda: ["chain_sum_1", "basic_arithmetic_1"])
    questions: int = 24
    simulations: int = 32
    seed: int = 0
    output: Path = Path("data/wordings/sums.jsonl")


def run(options: TwoPromptsOptions) -> None:
    """Search what is missing and print the table."""
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    settings = {"simulations": options.simulations, "seed": options.seed, "tasks": options.tasks}
    journal = Journal(options.output, {**settings, "fingerprint": backbone.fingerprint, "dtype": backbone.dtype_name})
    done = {part["question"] for part in journal.parts}
    for name in options.tasks:
        questions = load_task(name, "test", limit=4 * options.questions, seed=options.seed)
        wrong = answered_wrongly(backbone, questions, _scoring(questions, PROMPTS[0]))[: options.questions]
        missing = [question for question in wrong if question.key not in done]
        for start in range(0, len(missing), TOGETHER):
            group = missing[start : start + TOGETHER]
            for part in _searched(backbone, group, options):
                journal.add(part)
            console.print(f"{name}: {start + len(group)} of {len(missing)} questions searched")
    print_table(journal.parts, options.seed)


def _scoring(questions: Sequence[Question], prompt: Prompt) -> Scoring:
    return Scoring(prompt=prompt, reward="verify").of(questions)


def _searched(backbone: Backbone, questions: Sequence[Question], options: TwoPromptsOptions) -> list[dict[str, Any]]:
    """Of each question, for gold and for luck: the rewards of all chains found under the second and third prompt."""
    plan = Plan(MCTS(options.simulations), neighbours=0, seed=options.seed)
    targets: dict[str, dict[str, tuple[int, list[Chain]]]] = {}
    judge = make_judge(backbone, _scoring(questions, PROMPTS[0]))
    for finished in label_questions(judge, questions, plan):
        for question, label in finished:
            targets[question.key] = {"gold": (question.gold, [trial.chain for trial in label.good])}
            if label.luck is not None:  # the plain model does not give the wrong answer already
                targets[question.key]["luck"] = label.luck.option, [chain for chain, _ in label.luck.found]
    chains = {key: [chain for _, some in own.values() for chain in some] for key, own in targets.items()}
    parts: dict[str, dict[str, Any]] = {
        key: {"question": key, **{name: [] for name in own}} for key, own in targets.items()
    }
    for prompt in PROMPTS[1:]:
        judge = make_judge(backbone, _scoring(questions, prompt))
        for question, scores in score_questions(
            judge, questions, lambda question: list(dict.fromkeys(chains[question.key]))
        ):
            for name, (option, some) in targets[question.key].items():
                parts[question.key][name].append([scores[chain].reward(option) for chain in some])
    return list(parts.values())


def print_table(parts: Sequence[dict[str, Any]], seed: int = 0) -> None:
    """A row for what one prompt finds and one for what two agree on, in Markdown."""
    parts = [part for part in parts if "luck" in part]
    console.print(f"{len(parts)} questions that base answers wrongly, with a luck control", soft_wrap=True)
    headings = ("right under", "corrected", "by luck", "beyond luck (95%)", "hold, gold", "hold, luck")
    print(f"| {' | '.join((*headings, 'beyond luck (95%)'))} |\n{'|---' * (len(headings) + 1)}|")
    for title, agreeing in (("one prompt", False), ("two prompts", True)):
        # Rewards under the third prompt of the chains that count, of each question.
        gold, luck = (
            [[third for second, third in zip(*part[name], strict=True) if second or not agreeing] for part in parts]
            for name in ("gold", "luck")
        )
        found, lucky = ([float(bool(some)) for some in side] for side in (gold, luck))
        held, lucky_held = ([float(numpy.mean(some)) for some in side if some] for side in (gold, luck))
        both = [(one, other) for one, other in zip(gold, luck, strict=True) if one and other]
        mine, others = ([float(numpy.mean(pair[side])) for pair in both] for side in (0, 1))
        cells = [
            title,
            f"{numpy.mean(found):.0%}",
            f"{numpy.mean(lucky):.0%}",
            points(paired_difference(found, lucky, seed)),
            f"{numpy.mean(held or [0.0]):.0%}",
            f"{numpy.mean(lucky_held or [0.0]):.0%}",
            f"{points(paired_difference(mine, others, seed))}, {len(both)} questions" if both else "",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    Command(TwoPromptsOptions, run, "Chains found for open questions, under other prompts.")("benchmarks.two_prompts")
