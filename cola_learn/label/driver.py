"""Serves many searches from one judge: every round, each search asks for one chain and all are scored together."""

import gc
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from cola_learn.chains import Chain
from cola_learn.label.plan import Plan
from cola_learn.label.records import Label, Luck, Trial
from cola_learn.rewards.judge import Judge
from cola_learn.rewards.reward import REWARDS, Reward
from cola_learn.rewards.scores import Scores
from cola_learn.search.method import Prior, Search
from cola_learn.search.moves import random_edit, used_layers
from cola_learn.tasks.questions import Question, Template, as_sample


def label_questions(
    judge: Judge,
    questions: Sequence[Question],
    plan: Plan,
    template: Template = "cloze",
    trees: int = 32,
    prior: Prior | None = None,
    reward: Reward = REWARDS["choices"],
    on_round: Callable[[int], None] = lambda simulations: None,
) -> Iterator[list[tuple[Question, Label]]]:
    """Label every question, ``trees`` at a time; yields the finished ones of each round that finishes any. Nothing was
    run again yet: ``Verifier`` does so, for the luck control as for the search.

    Searches are seeded by question, ask one chain at a time, and see only their own rewards, so labels do not depend
    on ``trees``, on order or on which other questions there are. Questions run in order of length, so that their rows
    fill calls evenly.

    Args:
        judge: scores chains.
        questions: what to label.
        plan: how.
        template: how questions are written.
        trees: how many questions are open at a time.
        prior: of the searches.
        reward: says what is good, and what the luck control searches for.
        on_round: told the number of simulations that each round settled; a finished question counts in full.
    """
    waiting = in_order(questions)[::-1]
    working: list[_Work] = []
    done = reported = 0
    each = plan.budget(judge.num_layers) * (1 + plan.luck)
    while waiting or working:
        while waiting and len(working) < trees:
            question = waiting.pop()
            judge.open(as_sample(question, template))
            working.append(_Work(question, plan, judge.num_layers, prior, reward))
        wanted = [(work, work.wants()) for work in working]
        scores = iter(judge.score([(work.question.key, chain) for work, chains in wanted for chain in chains]))
        for work, chains in wanted:
            work.take({chain: next(scores) for chain in chains})
        finished = [work for work, chains in wanted if not chains]
        working = [work for work, chains in wanted if chains]
        done += len(finished) * each
        settled = done + sum(work.settled for work in working)
        on_round(settled - reported)
        reported = settled
        for work in finished:
            judge.close(work.question.key)
        if finished:
            yield [(work.question, work.label()) for work in finished]


def collect_seldom() -> None:
    """Let Python look for reference cycles less often: searches make millions of small objects, none in a cycle, and
    going through them all takes a third of their time."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def in_order(questions: Sequence[Question]) -> list[Question]:
    """Questions in the order in which they are searched: by length."""
    return sorted(questions, key=lambda question: (len(question.text), question.key))


class Hunt:
    """A search for chains that answer with one option."""

    def __init__(self, search: Search, option: int, patience: int | None, good: float = 1.0) -> None:
        self.search = search
        self.option = option
        self.tried: dict[Chain, int] = {}  # the simulation that tried each chain first
        self._patience, self._good = patience, good
        self._least = 1 << 30
        self._last_found = 0
        self._asked: Chain | None = None

    def wants(self, scores: dict[Chain, Scores]) -> Chain | None:
        """The next chain without scores; None when the search is over."""
        if self._asked is not None:
            self._tell(self._asked, scores[self._asked])
        while not self._patience or self.search.simulations - self._last_found < self._patience:
            chain = self.search.ask()
            if chain is None or chain not in scores:
                self._asked = chain
                return chain
            self._tell(chain, scores[chain])
        self._asked = None
        return None

    def _tell(self, chain: Chain, scores: Scores) -> None:
        reward = scores.reward(self.option)
        self.tried[chain] = self.search.simulations + 1
        if reward >= self._good and chain.depth < self._least:
            self._least, self._last_found = chain.depth, self.search.simulations
        self.search.tell(chain, min(1.0, reward / self._good), scores.margin(self.option))


class _Work:
    """A question under way: the search for its gold option and, sharing all scores, the one for a wrong option."""

    def __init__(self, question: Question, plan: Plan, num_layers: int, prior: Prior | None, reward: Reward) -> None:
        self.question, self._reward = question, reward
        self._plan = plan
        self._prior = prior
        self._base = Chain.base(num_layers)
        self._scores: dict[Chain, Scores] = {}
        self._hunts: list[Hunt] = []
        self._hunts.append(self._hunt(question.gold))
        self._around: list[tuple[Chain, Chain]] | None = None
        self._near: dict[Chain, set[Chain]] = defaultdict(set)

    @property
    def settled(self) -> int:
        """Simulations that count so far."""
        return sum(hunt.search.simulations for hunt in self._hunts)

    def wants(self) -> list[Chain]:
        """Chains to score next, none twice; none at all when the label is finished."""
        if self._plan.luck and len(self._hunts) == 1 and self._scores:
            option = self._reward.decoy(self.question, self._scores[self._base], self._plan.seed)
            self._hunts += [self._hunt(option)] if option is not None else []
        chains = dict.fromkeys(chain for hunt in self._hunts if (chain := hunt.wants(self._scores)) is not None)
        if not chains and self._around is None:
            self._around = self._neighbours_to_try()
            chains = dict.fromkeys(chain for _, chain in self._around)
        return list(chains)

    def take(self, scores: dict[Chain, Scores]) -> None:
        """Scores of the chains last wanted."""
        self._scores.update(scores)

    def label(self) -> Label:
        question, gold = self.question, self._hunts[0]
        good = {chain: scores.reward(question.gold) for chain, scores in self._scores.items()}
        self._note_neighbours(self._around or [])
        near = self._near
        trials = tuple(
            Trial(
                chain,
                good[chain],
                self._scores[chain].margin(question.gold),
                gold.search.visits(chain),
                simulation,
                len(near[chain]),
                sum(self._reward.is_good(good[other]) for other in near[chain]),
                self._scores[chain].values if self._plan.keep_scores else (),
            )
            for chain, simulation in gold.tried.items()
        )
        luck = self._luck(self._hunts[1]) if len(self._hunts) > 1 else None
        return Label(question.task, question.split, question.id, trials, luck, question.digest, self._reward.good)

    def _hunt(self, option: int) -> Hunt:
        plan, seed = self._plan, f"{self._plan.seed}/{self.question.key}"
        twin = self._hunts[0].search if self._hunts else None
        search = plan.search.start(self._base.num_layers, plan.space, seed, self._prior, twin)
        return Hunt(search, option, plan.patience, self._reward.good)

    def _luck(self, hunt: Hunt) -> Luck:
        found = [pair for pair in hunt.tried.items() if self._reward.is_good(self._scores[pair[0]].reward(hunt.option))]
        return Luck(hunt.option, tuple(found))

    def _note_neighbours(self, links: Iterable[tuple[Chain, Chain]]) -> None:
        """Keep which chains are one edit away from each other, of those that were scored for this question."""
        for first, second in links:
            if first in self._scores and second in self._scores:
                self._near[first].add(second)
                self._near[second].add(first)

    def _neighbours_to_try(self) -> list[tuple[Chain, Chain]]:
        """The shallowest good chain with as many new chains one edit away as the plan finds missing."""
        for hunt in self._hunts:
            self._note_neighbours(hunt.search.links())
        gold = self.question.gold
        good = [chain for chain in self._hunts[0].tried if self._reward.is_good(self._scores[chain].reward(gold))]
        if not good or not self._plan.neighbours:
            return []
        best = min(good, key=lambda chain: chain.depth)
        chance = random.Random(f"{self._plan.seed}/neighbours/{self.question.key}")
        space, used, seen = self._plan.space, used_layers(best, self._plan.space), set(self._scores)
        links: list[tuple[Chain, Chain]] = []
        for _ in range(self._plan.neighbours - len(self._near[best])):
            found = random_edit(best, used, space, chance, seen)
            if found is None:
                break
            seen.add(found[0])
            links.append((best, found[0]))
        return links
