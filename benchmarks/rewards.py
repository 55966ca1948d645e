"""Rewards for open questions, side by side: verifying an answer in one pass against letting every chain write it.

Three things in one run: how fast a search is on either reward and what it finds; how often the two agree on the same
(question, chain); and what one evaluation costs the way other projects make it, one chain at a time, the answer
written freely up to the limit::

    python -m benchmarks.rewards --config configs/label/math.yaml --questions 50 --agree_questions 200
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rich.console import Console
from scipy.stats import binomtest

from cola_learn.backbone import Backbone, Executor, load_backbone
from cola_learn.chains import Chain, SearchSpace
from cola_learn.cli import progress_bar, run_command
from cola_learn.label import SearchSettings
from cola_learn.label.driver import Plan, label_questions
from cola_learn.label.moves import random_edit, used_layers
from cola_learn.tasks import Prompt, Question, Scorer, Writer, as_sample, load_task


@dataclass(frozen=True)
class Options:
    """Options of python -m benchmarks.rewards.

    Attributes:
        task: of open questions.
        split: of the task.
        prompt: how they are put.
        questions: that are searched with either reward.
        simulations: of each search.
        agree_questions: on which the two rewards are compared chain by chain.
        agree_chains: the base chain and so many less one random ones of one to three edits, each.
        peer_evaluations: how many are made one at a time, with free answers.
        peer_tokens: that a free answer may have.
        trees: questions searched at the same time.
        seed: of all draws.
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
    trees: int = 16
    seed: int = 0


def run(options: Options) -> None:
    """Print the comparison."""
    backbone = load_backbone()
    out = Console(highlight=False, width=120)
    _compare_searches(backbone, options, out)
    _compare_verdicts(backbone, options, out)


def _compare_searches(backbone: Backbone, options: Options, out: Console) -> None:
    questions = load_task(options.task, options.split, options.questions, options.seed)
    plan = Plan(search=SearchSettings(simulations=options.simulations), seed=options.seed, luck=False, neighbours=0)
    scorer = Scorer(Executor(backbone), prompt=options.prompt)
    writer = Writer(backbone, options.prompt)
    seconds, good = {}, {}
    for name, judge in (("verify", scorer), ("generate", writer)):
        seconds[name], good[name] = _search(judge, questions, plan, options.trees, name)
    count = len(questions) * options.simulations
    out.print(f"search of {len(questions)} {options.task} questions, {options.simulations} simulations each")
    for name in good:
        out.print(f"  {name:<9} {count / seconds[name]:6.1f} simulations/s, {len(good[name])} good chains")
    peer = _peer_seconds(backbone, questions, options)
    out.print(f"  one chain at a time, free answers up to {options.peer_tokens} tokens: {1 / peer:.2f} evaluations/s")
    out.print(
        f"  verify against generate: {seconds['generate'] / seconds['verify']:.1f}x the simulations/s; "
        f"against one at a time: {count * peer / seconds['verify']:.0f}x"
    )
    by_key = {question.key: question for question in questions}
    verifier = scorer.alone()
    held = sum(_reward(verifier, by_key[key], [chain])[0] for key, chain in sorted(good["generate"], key=str))
    out.print(f"  of the good chains of generate, verify finds good: {_share(int(held), len(good['generate']))}")


def _search(
    judge: Scorer | Writer, questions: list[Question], plan: Plan, trees: int, name: str
) -> tuple[float, set[tuple[str, Chain]]]:
    """Seconds, and the good chains with the keys of their questions."""
    good: set[tuple[str, Chain]] = set()
    begin = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task(name, total=len(questions) * plan.search.simulations, unit="simulations", note="")
        rounds = label_questions(judge, questions, plan, trees, on_round=lambda count: bar.advance(task, count))
        for finished in rounds:
            good |= {(question.key, trial.chain) for question, label in finished for trial in label.good}
    return time.perf_counter() - begin, good


def _peer_seconds(backbone: Backbone, questions: list[Question], options: Options) -> float:
    """Seconds for one evaluation by an uncached-prompt generation of a free answer, one chain at a time."""
    free = Prompt(chat=True, begin="", max_new_tokens=options.peer_tokens)
    drawn = list(_drawn(backbone, questions, replace(options, agree_chains=2)))[: options.peer_evaluations]
    begin = time.perf_counter()
    for question, chains in drawn:
        _reward(Writer(backbone, free, cache_bytes=0), question, chains[-1:])
    return (time.perf_counter() - begin) / len(drawn)


def _compare_verdicts(backbone: Backbone, options: Options, out: Console) -> None:
    questions = load_task(options.task, options.split, options.agree_questions, options.seed)
    scorer, writer = Scorer(Executor(backbone), prompt=options.prompt), Writer(backbone, options.prompt)
    verified: list[float] = []
    written: list[float] = []
    with progress_bar() as bar:
        task = bar.add_task("agreement", total=len(questions), unit="questions", note="")
        for question, chains in _drawn(backbone, questions, options):
            verified += _reward(scorer, question, chains)
            written += _reward(writer, question, chains)
            bar.advance(task)
    both = sum(one and other for one, other in zip(verified, written, strict=True))
    same = sum(one == other for one, other in zip(verified, written, strict=True))
    out.print(f"agreement on {len(questions)} questions x {options.agree_chains} chains")
    out.print(f"  the same verdict: {_share(same, len(verified))}")
    out.print(f"  right by generate, also by verify: {_share(int(both), int(sum(written)))}")
    out.print(f"  right by verify, also by generate: {_share(int(both), int(sum(verified)))}")
    out.print(f"  answers that could not be graded: {dict(writer.grader.failures) or 'none'}")


def _drawn(backbone: Backbone, questions: list[Question], options: Options) -> Iterator[tuple[Question, list[Chain]]]:
    """Questions with the base chain and random ones of one to three edits."""
    space, base = SearchSpace(), Chain.base(backbone.num_layers)
    for question in questions:
        chance = random.Random(f"{options.seed}/{question.key}")
        chains = {base}
        while len(chains) < options.agree_chains:
            chain = base
            for _ in range(chance.randint(1, 3)):
                found = random_edit(chain, used_layers(chain, space), space, chance, chains)
                chain = found[0] if found else chain
            chains.add(chain)
        yield question, [base, *sorted(chains - {base}, key=lambda chain: chain.layers)]


def _reward(judge: Scorer | Writer, question: Question, chains: list[Chain]) -> list[float]:
    sample = as_sample(question)
    judge.open(sample)
    scores = judge.score([(sample.key, chain) for chain in chains])
    judge.close(sample.key)
    return [score.reward(question.gold) for score in scores]


def _share(count: int, total: int) -> str:
    if not total:
        return "none to compare"
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return f"{count} of {total}, {count / total:.1%} (95% {interval.low:.1%} to {interval.high:.1%})"


if __name__ == "__main__":
    run_command(Options, run, "benchmarks.rewards", "Verification against generation as the reward of open questions.")
