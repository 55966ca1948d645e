"""Rewards for open questions, side by side: verifying an answer in one pass against letting every chain write it.

Three things in one run: how fast a search is on either reward and what it finds; how often the two agree on the same
(question, chain); and what one evaluation costs the way other projects make it, one chain at a time, the answer
written freely up to the limit. What is finished is kept in the output file; the same command, for more questions too,
goes on from there. Measure speed with nothing else on the machine::

    python -m benchmarks.studies.rewards --questions 50 --agree_questions 200 --output runs/rewards.jsonl
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from scipy.stats import binomtest

from benchmarks.studies.journal import Journal
from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain, SearchSpace
from cola_learn.command import Command
from cola_learn.console import progress_bar
from cola_learn.label.driver import label_questions
from cola_learn.label.plan import Plan
from cola_learn.rewards.answer_judges import AnswerVerifier, AnswerWriter
from cola_learn.rewards.judge import Judge
from cola_learn.rewards.prompts import Prompt
from cola_learn.search.methods import MCTS
from cola_learn.search.moves import random_edit, used_layers
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question, as_sample


@dataclass(frozen=True)
class Options:
    """Options of python -m benchmarks.studies.rewards.

    Attributes:
        task: of open questions.
        split: of the task.
        prompt: how they are put.
        questions: that are searched with either reward; 0 leaves a part out.
        simulations: of each search.
        agree_questions: on which the two rewards are compared chain by chain.
        agree_chains: the base chain and so many less one random ones of one to three edits, each.
        peer_evaluations: how many are made one at a time, with free answers, beside the searches.
        peer_tokens: that a free answer may have.
        trees: questions searched or compared at the same time, on one reward and then on the other.
        seed: of all draws.
        dtype: of the backbone; an output file has one.
        output: file of what is finished.
    """

    task: str = "dart_math_1"
    split: str = "test"
    prompt: Prompt = field(default_factory=Prompt)
    questions: int = 50
    simulations: int = 50
    agree_questions: int = 200
    agree_chains: int = 20
    peer_evaluations: int = 24
    peer_tokens: int = 256
    trees: int = 8
    seed: int = 0
    dtype: Dtype = "auto"
    output: Path = Path("runs/rewards.jsonl")


_COUNTS = ("questions", "agree_questions", "peer_evaluations", "output")  # more of them change no part


def run(options: Options) -> None:
    """Measure what is missing, then print what all parts give."""
    wanted = {
        part: load_task(options.task, options.split, count, options.seed) if count else []
        for part, count in (
            ("search", options.questions),
            ("peer", options.peer_evaluations if options.questions else 0),
            ("agreement", options.agree_questions),
        )
    }
    settings = {name: value for name, value in asdict(options).items() if name not in _COUNTS}
    journal = Journal(options.output, settings)
    done = {(part["part"], key) for part in journal.parts for key in part["keys"]}
    missing = {
        name: [question for question in questions if (name, question.key) not in done]
        for name, questions in wanted.items()
    }
    if any(missing.values()):
        backbone = load_backbone(dtype=options.dtype)
        with progress_bar() as bar:
            for name, measure, unit, each in (
                ("search", _search, "simulations", 2 * options.simulations),
                ("peer", _peer, "answers", 1),
                ("agreement", _agreement, "questions", 1),
            ):
                if not missing[name]:
                    continue
                task = bar.add_task(name, total=len(missing[name]) * each, unit=unit, note="")
                for part in measure(backbone, missing[name], options, partial(bar.advance, task)):
                    journal.add({"part": name, **part})
    keys = {name: {question.key for question in questions} for name, questions in wanted.items()}
    _print(
        {
            name: [part for part in journal.parts if part["part"] == name and keys[name].issuperset(part["keys"])]
            for name in keys
        },
        options,
    )


def _search(
    backbone: Backbone, questions: Sequence[Question], options: Options, advance: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """Both searches of a few questions at a time: seconds, good chains, and how many of generate's verify, asked
    by itself, finds good too."""
    plan = Plan(MCTS(options.simulations), seed=options.seed, luck=False, neighbours=0)
    scorer, writer = AnswerVerifier(Executor(backbone), options.prompt), AnswerWriter(backbone, options.prompt)
    alone = scorer.alone()
    for start in range(0, len(questions), options.trees):
        group = questions[start : start + options.trees]
        part: dict[str, Any] = {"keys": [question.key for question in group]}
        good: dict[str, list[Chain]] = {}
        judges: tuple[tuple[str, Judge], ...] = (("verify", scorer), ("generate", writer))
        for name, judge in judges:
            begin = time.perf_counter()
            rounds = list(label_questions(judge, group, plan, trees=options.trees, on_round=advance))
            seconds = time.perf_counter() - begin
            good = {question.key: [trial.chain for trial in label.good] for done in rounds for question, label in done}
            part[name] = {"seconds": seconds, "good": sum(map(len, good.values()))}
        part["held"] = sum(_rewards(alone, [(question, chain) for question in group for chain in good[question.key]]))
        yield part


def _peer(
    backbone: Backbone, questions: Sequence[Question], options: Options, advance: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """Seconds for one free answer through a random chain, nothing of the prompt kept."""
    writer = AnswerWriter(backbone, Prompt(chat=True, begin="", max_new_tokens=options.peer_tokens), cache_bytes=0)
    for question in questions:
        chain = _drawn(backbone, question, 2, options.seed)[1]
        begin = time.perf_counter()
        _rewards(writer, [(question, chain)])
        yield {"keys": [question.key], "seconds": time.perf_counter() - begin}
        advance(1)


def _agreement(
    backbone: Backbone, questions: Sequence[Question], options: Options, advance: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """Both verdicts on the base chain and random ones."""
    scorer, writer = AnswerVerifier(Executor(backbone), options.prompt), AnswerWriter(backbone, options.prompt)
    for start in range(0, len(questions), options.trees):
        group = questions[start : start + options.trees]
        pairs = [
            (question, chain)
            for question in group
            for chain in _drawn(backbone, question, options.agree_chains, options.seed)
        ]
        writer.grader.failures.clear()
        yield {
            "keys": [question.key for question in group],
            "verify": _rewards(scorer, pairs),
            "generate": _rewards(writer, pairs),
            "failures": dict(writer.grader.failures),
        }
        advance(len(group))


def _print(parts: dict[str, list[dict[str, Any]]], options: Options) -> None:
    out = Console(highlight=False, width=120)
    if searched := parts["search"]:
        seconds = {name: sum(part[name]["seconds"] for part in searched) for name in ("verify", "generate")}
        good = {name: sum(part[name]["good"] for part in searched) for name in seconds}
        questions = sum(len(part["keys"]) for part in searched)
        count = questions * options.simulations
        out.print(f"search of {questions} {options.task} questions, {options.simulations} simulations each")
        for name in seconds:
            out.print(f"  {name:<9} {count / seconds[name]:6.2f} simulations/s, {good[name]} good chains")
        times = [part["generate"]["seconds"] / part["verify"]["seconds"] for part in searched]
        out.print(
            f"  verify against generate: {seconds['generate'] / seconds['verify']:.1f}x the simulations/s "
            f"({min(times):.1f}x to {max(times):.1f}x of {len(times)} groups)"
        )
        held = sum(part["held"] for part in searched)
        out.print(f"  of the good chains of generate, verify finds good: {_share(int(held), good['generate'])}")
        if peers := parts["peer"]:
            peer = sum(part["seconds"] for part in peers) / len(peers)
            out.print(
                f"  one chain at a time, free answers up to {options.peer_tokens} tokens: {1 / peer:.2f} evaluations/s "
                f"({len(peers)} of them); verify against that: {count * peer / seconds['verify']:.0f}x"
            )
    if compared := parts["agreement"]:
        verdicts = [pair for part in compared for pair in zip(part["verify"], part["generate"], strict=True)]
        counts = Counter(verdicts)
        both = counts[1, 1]
        verified, written = both + counts[1, 0], both + counts[0, 1]
        failures = sum((Counter(part["failures"]) for part in compared), Counter[str]())
        questions = sum(len(part["keys"]) for part in compared)
        out.print(f"agreement on {questions} questions x {options.agree_chains} chains")
        out.print(f"  the same verdict: {_share(both + counts[0, 0], len(verdicts))}")
        out.print(f"  right by generate, also by verify: {_share(both, written)}")
        out.print(f"  right by verify, also by generate: {_share(both, verified)}")
        out.print(f"  answers that could not be graded: {dict(failures) or 'none'}")


def _drawn(backbone: Backbone, question: Question, count: int, seed: int) -> list[Chain]:
    """The base chain and random ones of one to three edits."""
    space, base = SearchSpace(), Chain.base(backbone.num_layers)
    chance = random.Random(f"{seed}/{question.key}")
    chains = {base}
    while len(chains) < count:
        chain = base
        for _ in range(chance.randint(1, 3)):
            found = random_edit(chain, used_layers(chain, space), space, chance, chains)
            chain = found[0] if found else chain
        chains.add(chain)
    return [base, *sorted(chains - {base}, key=lambda chain: chain.layers)]


def _rewards(judge: Judge, pairs: Sequence[tuple[Question, Chain]]) -> list[float]:
    """Of every (question, chain), all run together."""
    questions = {question.key: question for question, _ in pairs}
    for question in questions.values():
        judge.open(as_sample(question))
    scores = judge.score([(question.key, chain) for question, chain in pairs])
    for key in questions:
        judge.close(key)
    return [score.reward(question.gold) for score, (question, _) in zip(scores, pairs, strict=True)]


def _share(count: int, total: int) -> str:
    if not total:
        return "none to compare"
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return f"{count} of {total}, {count / total:.1%} (95% {interval.low:.1%} to {interval.high:.1%})"


if __name__ == "__main__":
    Command(Options, run, "Verification against generation as the reward of open questions.")(
        "benchmarks.studies.rewards"
    )
