"""Do chains that answer several wordings of a question hold on one that no search saw?

Questions that the plain model answers wrongly are searched with one wording and, with a third of the simulations, with
three: as many rows are run. The luck control searches for a wrong option in the same way. Of both, the first chains
found are then run on a fourth wording. A killed run goes on.

    python -m benchmarks.wordings --output data/wordings/questions.jsonl
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy

from benchmarks.journal import Journal
from cola_learn import Chain, Question, load_backbone, load_task
from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.options import Dtype
from cola_learn.command import Command
from cola_learn.console import console
from cola_learn.intervals import paired_difference, points
from cola_learn.label.driver import label_questions
from cola_learn.label.methods import MCTS
from cola_learn.label.plan import Plan
from cola_learn.label.records import Label
from cola_learn.tasks.judges import make_judge, score_questions
from cola_learn.tasks.questions import as_sample
from cola_learn.tasks.rewording import REWORDED, reworded
from cola_learn.tasks.scoring import Scoring

TOGETHER = 20  # questions searched at a time


@dataclass(frozen=True)
class WordingsOptions:
    """Options of the study.

    Attributes:
        backbone: as for label.
        dtype: as for label.
        tasks: whose test questions are searched.
        questions: of each task that the plain model answers wrongly.
        simulations: with one wording; a third of it with three.
        chains: how many of the first chains found are run on the unseen wording.
        seed: of the draw and of the searches.
        output: journal; an unfinished one is gone on with.
    """

    backbone: str = "embedded"
    dtype: Dtype = "auto"
    tasks: tuple[str, ...] = ("arc_easy", "arc_challenge")
    questions: int = 60
    simulations: int = 48
    chains: int = 5
    seed: int = 0
    output: Path = Path("data/wordings/questions.jsonl")


def run(options: WordingsOptions) -> None:
    """Search what is missing and print the table."""
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    settings = {name: getattr(options, name) for name in ("simulations", "chains", "seed", "tasks")}
    of_model = {"fingerprint": backbone.fingerprint, "dtype": backbone.dtype_name}
    journal = Journal(options.output, {**settings, **of_model})
    done = {part["question"]: part for part in journal.parts}
    for name in options.tasks:
        questions = load_task(name, "test", limit=4 * options.questions, seed=options.seed)
        wrong = answered_wrongly(backbone, questions, Scoring().of(questions))
        missing = [question for question in wrong[: options.questions] if question.key not in done]
        for start in range(0, len(missing), TOGETHER):
            for part in _searched(backbone, missing[start : start + TOGETHER], options):
                journal.add(part)
            console.print(f"{name}: {start + len(missing[:TOGETHER])} of {len(missing)} questions searched")
    print_table(journal.parts, options.seed)


def answered_wrongly(backbone: Backbone, questions: Sequence[Question], scoring: Scoring) -> list[Question]:
    """Those that the plain model answers wrongly."""
    base = Chain.base(backbone.num_layers)
    found = score_questions(make_judge(backbone, scoring), questions, [base], together=TOGETHER)
    return [question for question, scores in found if not scores[base].reward(question.gold)]


def _searched(backbone: Backbone, questions: Sequence[Question], options: WordingsOptions) -> list[dict[str, Any]]:
    """Of each question, with one and with three wordings, for gold and for luck: how many chains were found, and the
    rewards of the first ones on the unseen wording; the base chain's there too."""
    scoring, base = Scoring().of(questions), Chain.base(backbone.num_layers)
    parts: dict[str, dict[str, Any]] = {question.key: {"question": question.key} for question in questions}
    wanted: dict[str, list[tuple[str, int, list[Chain]]]] = {
        question.key: [("plain", question.gold, [base])] for question in questions
    }
    for wordings in (1, 3):
        plan = Plan(MCTS(options.simulations // wordings), neighbours=0, seed=options.seed)
        judge = make_judge(backbone, replace(scoring, wordings=wordings))
        for finished in label_questions(judge, questions, plan):
            for question, label in finished:
                assert label.luck is not None
                for target, option, chains in (
                    ("gold", question.gold, _found(label)),
                    ("luck", label.luck.option, [chain for chain, _ in label.luck.found]),
                ):
                    name = f"{target} {wordings}"
                    parts[question.key][name] = {"found": len(chains)}
                    wanted[question.key].append((name, option, chains[: options.chains]))
    judge = make_judge(backbone, scoring)
    for question in questions:
        sample = reworded(as_sample(question), REWORDED[2])
        judge.open(sample)
        chains = list(dict.fromkeys(chain for _, _, some in wanted[question.key] for chain in some))
        scores = dict(zip(chains, judge.score([(sample.key, chain) for chain in chains]), strict=True))
        judge.close(sample.key)
        for name, option, some in wanted[question.key]:
            held = [scores[chain].reward(option) for chain in some]
            parts[question.key] |= {name: held[0] if name == "plain" else {**parts[question.key][name], "held": held}}
    return list(parts.values())


def _found(label: Label) -> list[Chain]:
    return [trial.chain for trial in sorted(label.good, key=lambda trial: trial.simulation)]


def print_table(parts: Sequence[dict[str, Any]], seed: int = 0) -> None:
    """A row for each number of wordings, in Markdown."""
    console.print(f"{len(parts)} questions that base answers wrongly", soft_wrap=True)
    headings = (
        "wordings",
        "corrected",
        "by luck",
        "beyond luck (95%)",
        "hold, gold",
        "hold, luck",
        "beyond luck (95%)",
    )
    print(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|")
    for wordings in (1, 3):
        gold, luck = ([part[f"{target} {wordings}"] for part in parts] for target in ("gold", "luck"))
        corrected, lucky = ([float(one["found"] > 0) for one in side] for side in (gold, luck))
        both = [(one, other) for one, other in zip(gold, luck, strict=True) if one["held"] and other["held"]]
        held, lucky_held = ([float(numpy.mean(pair[side]["held"])) for pair in both] for side in (0, 1))
        cells = [
            str(wordings),
            f"{numpy.mean(corrected):.0%}",
            f"{numpy.mean(lucky):.0%}",
            points(paired_difference(corrected, lucky, seed)),
            f"{_mean_held(gold):.0%}",
            f"{_mean_held(luck):.0%}",
            f"{points(paired_difference(held, lucky_held, seed))}, {len(both)} questions" if both else "",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    plain = numpy.mean([part["plain"] for part in parts])
    console.print(f"the plain model answers {plain:.0%} of them rightly in the unseen wording")


def _mean_held(side: Sequence[dict[str, Any]]) -> float:
    return float(numpy.mean([numpy.mean(one["held"]) for one in side if one["held"]] or [0.0]))


if __name__ == "__main__":
    Command(WordingsOptions, run, "Chains found with several wordings, on one that no search saw.")(
        "benchmarks.wordings"
    )
