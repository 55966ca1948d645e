"""Serves many trees from one executor: every round, each tree asks for one chain and all are scored together."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cola_learn.chains import Chain, SearchSpace
from cola_learn.label.mcts import ChainSearch, SearchSettings
from cola_learn.label.records import Label, Trial
from cola_learn.tasks import OptionScores, Question, Scorer, Template, as_sample


@dataclass(frozen=True)
class Job:
    """A question to search, and the option that counts as right for it."""

    question: Question
    target: int

    @classmethod
    def for_gold(cls, question: Question) -> "Job":
        return cls(question, question.gold)

    @classmethod
    def for_luck(cls, question: Question, seed: int) -> "Job":
        """The luck control: a wrong option, drawn by seed and question, in the place of the right one."""
        wrong = [index for index in range(len(question.choices)) if index != question.gold]
        return cls(question, random.Random(f"{seed}/luck/{question.key}").choice(wrong))


@dataclass(eq=False)
class _Tree:
    job: Job
    search: ChainSearch
    scores: dict[Chain, OptionScores]


def search_jobs(
    scorer: Scorer,
    jobs: Sequence[Job],
    space: SearchSpace,
    settings: SearchSettings,
    template: Template = "cloze",
    seed: int = 0,
    trees: int = 32,
    on_round: Callable[[int], None] = lambda simulations: None,
) -> Iterator[list[tuple[Job, Label]]]:
    """Search every job, ``trees`` at a time; yields the finished ones of each round that finishes any.

    Trees are seeded by question, ask one chain at a time, and see only their own rewards, so labels do not
    depend on ``trees``, on order or on which other jobs there are. Jobs run in order of prompt length, so that
    rows of equal length share layer calls.

    Args:
        scorer: scores chains; jobs of one question share what is recorded for it.
        jobs: what to search.
        space, settings, seed: of every tree.
        template: how questions are written.
        trees: how many trees are open at a time.
        on_round: told the number of simulations that each round settled.
    """
    waiting = sorted(jobs, key=lambda job: (len(job.question.text), job.question.key), reverse=True)
    num_layers = scorer.backbone.num_layers
    open_trees: list[_Tree] = []
    users: Counter[str] = Counter()
    while waiting or open_trees:
        while waiting and len(open_trees) < trees:
            job = waiting.pop()
            if not users[job.question.key]:
                scorer.open(as_sample(job.question, template))
            users[job.question.key] += 1
            search = ChainSearch(num_layers, space, settings, f"{seed}/{job.question.key}")
            open_trees.append(_Tree(job, search, {}))
        before = sum(tree.search.simulations for tree in open_trees)
        asked = [(tree, tree.search.ask()) for tree in open_trees]
        requests = [(tree, chain) for tree, chain in asked if chain is not None]
        scores = scorer.score([(tree.job.question.key, chain) for tree, chain in requests])
        for (tree, chain), score in zip(requests, scores, strict=True):
            tree.scores[chain] = score
            tree.search.tell(chain, score.reward(tree.job.target))
        on_round(sum(tree.search.simulations for tree in open_trees) - before)
        finished = [tree for tree, chain in asked if chain is None]
        open_trees = [tree for tree, chain in asked if chain is not None]
        for tree in finished:
            users[tree.job.question.key] -= 1
            if not users[tree.job.question.key]:
                scorer.close(tree.job.question.key)
        if finished:
            yield [(tree.job, _label(tree)) for tree in finished]


def _label(tree: _Tree) -> Label:
    question, target = tree.job.question, tree.job.target
    trials = tuple(
        Trial(chain, tree.scores[chain].reward(target), tree.scores[chain].margin(target), visits)
        for chain, visits in tree.search.visits.items()
    )
    return Label(question.task, question.split, question.id, trials)
