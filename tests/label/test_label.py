"""The label stage on the real model and real questions: deterministic, resumable, true."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.chains import Chain
from cola_learn.label.driver import label_questions
from cola_learn.label.labeller import Labeller
from cola_learn.label.manifest import Manifest
from cola_learn.label.plan import Job, Plan, Resources
from cola_learn.label.records import Label
from cola_learn.label.run import fill_store
from cola_learn.label.store import LabelStore
from cola_learn.rewards.judges import make_judge
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.rewards.reward import wrong_option
from cola_learn.rewards.scores import OptionScores
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.methods import MCTS
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question, Sample, as_sample

PLAN = Plan(MCTS(12))
JOB = Job("embedded", Scoring(metric="acc", reward="choices"), PLAN, Resources(trees=1))


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return load_task("arc_easy", "test", 8)


def search(backbone: Backbone, questions: list[Question], trees: int, cache_bytes: int) -> dict[str, Label]:
    scorer = OptionScorer(Executor(backbone, cache_bytes))
    rounds = label_questions(scorer, questions, PLAN, trees=trees)
    return {label.key: label for finished in rounds for _, label in finished}


@pytest.fixture(scope="module")
def undisturbed(smollm: Backbone, questions: list[Question]) -> dict[str, Label]:
    return search(smollm, questions, trees=8, cache_bytes=2**30)


@pytest.mark.parametrize(("trees", "cache_bytes"), [(1, 0), (3, 500_000)])
def test_labels_do_not_depend_on_how_they_are_computed(
    smollm: Backbone, questions: list[Question], undisturbed: dict[str, Label], trees: int, cache_bytes: int
) -> None:
    """Invariant 5: batch size, order and cache change nothing, to the last bit of every margin."""
    assert search(smollm, questions[::-1], trees, cache_bytes) == undisturbed


def test_every_stored_chain_gives_its_reward_alone(
    smollm: Backbone, questions: list[Question], undisturbed: dict[str, Label]
) -> None:
    """Invariant 4: each chain again by itself, nothing cached; and what luck reached, it reached."""
    for question in questions[:4]:
        scorer = OptionScorer(Executor(smollm, cache_bytes=0))
        scorer.open(as_sample(question))
        label = undisturbed[question.key]
        for trial in label.trials:
            score = scorer.score([(question.key, trial.chain)])[0]
            assert score.reward(question.gold) == trial.reward
            assert score.margin(question.gold) == trial.margin
        assert label.luck
        for chain, _ in label.luck.found:
            assert scorer.score([(question.key, chain)])[0].choice == label.luck.option


class Interrupted(Exception):
    pass


def test_an_interrupted_run_goes_on(
    smollm: Backbone, questions: list[Question], undisturbed: dict[str, Label], tmp_path: Path
) -> None:
    """Killed when three questions are done; the second run keeps them, and the store is as if undisturbed."""
    labeller = Labeller(make_judge(smollm, JOB.scoring), JOB)
    store = LabelStore.create(tmp_path, Manifest.of(labeller.identity, JOB, "arc_easy", questions[0]))
    append, written = store.append, []

    def append_and_die(labels: list[Label]) -> None:
        append(labels)
        written.extend(labels)
        if len(written) == 3:
            raise Interrupted

    store.append = append_and_die  # type: ignore[method-assign,assignment]
    with pytest.raises(Interrupted):
        fill_store(store, labeller, questions, PLAN, "label")
    again = LabelStore.open(tmp_path)
    assert again.read() == written
    second = Labeller(make_judge(smollm, JOB.scoring), JOB)
    tally = fill_store(again, second, questions, PLAN, "label")
    expected = [undisturbed[question.key] for question in questions]
    assert again.read() == [dataclasses.replace(one, luck=one.luck and one.luck.shallower()) for one in expected]
    assert tally.questions == len(questions)
    assert second.effort.checked == sum(bool(label.good) for label in again.read() if label not in written)


class Stub:
    """Scores from a table, in the place of a model: what chains are worth is known here."""

    num_layers = 8

    def __init__(self, choose: Callable[[Chain], int]) -> None:
        self.choose = choose
        self.asked: list[Chain] = []

    def open(self, sample: Sample) -> None: ...

    def close(self, key: str) -> None: ...

    def score(self, requests: Sequence[tuple[str, Chain]]) -> list[OptionScores]:
        self.asked += [chain for _, chain in requests]
        return [
            OptionScores(tuple(float(option == self.choose(chain)) for option in range(4))) for _, chain in requests
        ]


QUESTION = Question("stub", "test", "1", "Which?", ("a", "b", "c", "d"), 0)


def label_of(choose: Callable[[Chain], int], plan: Plan) -> tuple[Label, Stub]:
    stub = Stub(choose)
    [[(_, label)]] = list(label_questions(stub, [QUESTION], plan))
    return label, stub


def test_neighbours_are_counted_and_filled_up() -> None:
    """Chains without layer 3 are right: of what is one edit away from such a chain, nearly all is right too."""
    plan = Plan(MCTS(30), neighbours=12)
    label, stub = label_of(lambda chain: 0 if 3 not in chain.layers else 1, plan)
    best = label.good[0]
    assert best.neighbours >= 12
    assert best.neighbours_good >= best.neighbours - 3  # the ways back to layer 3
    scored = set(stub.asked)
    for trial in label.trials:
        assert trial.neighbours <= len(scored) - 1
        assert trial.neighbours_good <= trial.neighbours
    assert len(stub.asked) == len(scored)  # gold, luck and neighbours share every score
    bare, _ = label_of(lambda chain: 0 if 3 not in chain.layers else 1, dataclasses.replace(plan, neighbours=0))
    assert [trial.chain for trial in bare.trials] == [trial.chain for trial in label.trials]


def test_luck_searches_an_option_that_is_neither_gold_nor_the_answer() -> None:
    def choose(chain: Chain) -> int:
        return sum(chain.layers) % 4 if chain != Chain.base(8) else 1

    label, _ = label_of(choose, Plan(MCTS(40)))
    assert label.luck
    assert label.luck.option in (2, 3)
    depths = [chain.depth for chain, _ in label.luck.shallower().found]
    assert depths == sorted(set(depths), reverse=True)
    assert all(choose(chain) == label.luck.option for chain, _ in label.luck.found)
    assert label_of(choose, Plan(MCTS(40), luck=False))[0].luck is None


def test_luck_needs_an_option_to_search_for(questions: list[Question]) -> None:
    def scores(choice: int) -> OptionScores:
        return OptionScores(tuple(float(option == choice) for option in range(2)))

    two = Question("stub", "test", "2", "Which?", ("a", "b"), 0)
    assert wrong_option(two, scores(1), seed=0) is None
    assert wrong_option(two, scores(0), seed=0) == 1
    for question in questions:
        option = wrong_option(question, OptionScores((0.0, 1.0, 0.0, 0.0)), seed=0)
        assert option not in (1, question.gold)
        assert option == wrong_option(question, OptionScores((0.0, 1.0, 0.0, 0.0)), seed=0)


def test_patience_ends_a_search_that_finds_nothing_shorter() -> None:
    plan = Plan(MCTS(500), patience=20, luck=False, neighbours=0)
    label, _ = label_of(lambda chain: 1, plan)
    assert len(label.trials) == 20
    label, _ = label_of(lambda chain: 0, plan)
    found = min(trial.simulation for trial in label.trials if trial.chain.depth == label.good[0].chain.depth)
    assert max(trial.simulation for trial in label.trials) <= found + 20


def test_progress_adds_up(questions: list[Question]) -> None:
    """What the bar is told is the whole budget, however early searches end."""
    told: list[int] = []
    stub = Stub(lambda chain: sum(chain.layers) % 4)
    plan = Plan(MCTS(50), patience=10)
    rounds: Iterator[object] = label_questions(stub, questions, plan, trees=3, on_round=told.append)
    assert sum(len(finished) for finished in rounds) == len(questions)  # type: ignore[arg-type,misc]
    assert sum(told) == 2 * 50 * len(questions)
