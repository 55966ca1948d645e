"""The label stage on the real model and real questions: deterministic, resumable, true."""

import dataclasses
from pathlib import Path

import pytest

from cola_learn.backbone import Backbone, Executor
from cola_learn.chains import SearchSpace
from cola_learn.label import Label, LabelStore, SearchSettings
from cola_learn.label.driver import Job, search_jobs
from cola_learn.label.run import LabelOptions, fill_store, make_manifest, make_scorer
from cola_learn.tasks import Question, Scorer, as_sample, load_task

OPTIONS = LabelOptions(limit=8, search=SearchSettings(simulations=12), trees=8)


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return load_task("arc_easy", "test", 8)


def search(backbone: Backbone, questions: list[Question], trees: int, cache_bytes: int) -> dict[str, Label]:
    scorer = Scorer(Executor(backbone, cache_bytes))
    jobs = [Job.for_gold(question) for question in questions]
    rounds = search_jobs(scorer, jobs, SearchSpace(), OPTIONS.search, trees=trees)
    return {label.key: label for finished in rounds for _, label in finished}


@pytest.fixture(scope="module")
def undisturbed(smollm16: Backbone, questions: list[Question]) -> dict[str, Label]:
    return search(smollm16, questions, trees=8, cache_bytes=2**30)


@pytest.mark.parametrize(("trees", "cache_bytes"), [(1, 0), (3, 500_000)])
def test_labels_do_not_depend_on_how_they_are_computed(
    smollm16: Backbone, questions: list[Question], undisturbed: dict[str, Label], trees: int, cache_bytes: int
) -> None:
    """Invariant 5, in bfloat16: batch size, order and cache change nothing, to the last bit of every margin."""
    assert search(smollm16, questions[::-1], trees, cache_bytes) == undisturbed


def test_every_stored_chain_gives_its_reward_alone(
    smollm16: Backbone, questions: list[Question], undisturbed: dict[str, Label]
) -> None:
    """Invariant 4: each chain again by itself, nothing cached."""
    for question in questions[:4]:
        for trial in undisturbed[question.key].trials:
            scorer = Scorer(Executor(smollm16, cache_bytes=0))
            scorer.open(as_sample(question))
            score = scorer.score([(question.key, trial.chain)])[0]
            assert score.reward(question.gold) == trial.reward
            assert score.margin(question.gold) == trial.margin


class Interrupted(Exception):
    pass


def test_an_interrupted_run_goes_on(
    smollm16: Backbone, questions: list[Question], undisturbed: dict[str, Label], tmp_path: Path
) -> None:
    """Killed when three questions are done; the second run keeps them, and the store is as if undisturbed."""
    store = LabelStore.create(tmp_path, make_manifest(smollm16, OPTIONS, questions[0]))
    jobs = [Job.for_gold(question) for question in questions]
    options = dataclasses.replace(OPTIONS, trees=1)
    scorer = make_scorer(smollm16, options)
    append, written = store.append, []

    def append_and_die(labels: list[Label]) -> None:
        append(labels)
        written.extend(labels)
        if len(written) == 3:
            raise Interrupted

    store.append = append_and_die  # type: ignore[method-assign,assignment]
    with pytest.raises(Interrupted):
        fill_store(store, scorer, jobs, options, "label")
    again = LabelStore.open(tmp_path)
    assert again.read() == written
    executor = make_scorer(smollm16, options)
    assert fill_store(again, executor, jobs, options, "label") == [undisturbed[q.key] for q in questions]
    assert again.read() == [undisturbed[question.key] for question in questions]
    tried = sum(len(undisturbed[q.key].trials) for q in questions if q.key not in {label.key for label in written})
    assert executor.executor.counters.requests == tried  # finished questions were not searched again


def test_luck_control_draws_wrong_options(questions: list[Question]) -> None:
    for question in questions:
        job = Job.for_luck(question, seed=0)
        assert job.target != question.gold
        assert 0 <= job.target < len(question.choices)
        assert job == Job.for_luck(question, seed=0)
