"""The labels that come with the repository are of all the questions that they claim, and true of the embedded model."""

import random
from pathlib import Path

import pytest

from cola_learn import LabelStore, as_sample, load_task, make_judge
from cola_learn.backbone.backbone import Backbone
from cola_learn.label.score_matrix import open_stores

MENUS = Path(__file__).parents[2] / "data"
FOLDER = MENUS / "labels"


@pytest.mark.parametrize("task", ["arc_challenge", "arc_easy"])
def test_labels_are_whole_and_true(task: str, smollm32: Backbone) -> None:
    """A few good chains run again alone, on whatever processor this is."""
    store = LabelStore.open(FOLDER / f"{task}-test")
    questions = {question.key: question for question in load_task(task, "test")}
    assert store.keys() == questions.keys()
    assert store.manifest.model.fingerprint == smollm32.fingerprint
    scorer = make_judge(smollm32, store.manifest.scoring, cache_gib=0)
    for label in random.Random(0).sample([label for label in store.read() if label.good], 5):
        question = questions[label.key]
        scorer.open(as_sample(question))
        for trial in label.good[:3]:
            score = scorer.score([(label.key, trial.chain)])[0]
            assert score.margin(question.gold) == pytest.approx(trial.margin, abs=1e-3), label.key
            assert score.reward(question.gold) == 1 or trial.margin < 1e-3
        scorer.close(label.key)


def test_math_labels_are_true(smollm32: Backbone) -> None:
    """A few good chains verified and written out again, alone."""
    good = []
    for folder in sorted(FOLDER.glob("dart_math_*")):
        store = LabelStore.open(folder)
        assert store.manifest.model.fingerprint == smollm32.fingerprint
        good += [(store.manifest, label) for label in store.read() if label.good]
    for manifest, label in random.Random(0).sample(good, 4):
        question = next(one for one in load_task(manifest.source.task, "test") if one.key == label.key)
        judge = make_judge(smollm32, manifest.scoring, cache_gib=0).reference()
        judge.open(as_sample(question))
        score = judge.score([(label.key, label.good[0].chain)])[0]
        assert score.margin(question.gold) == pytest.approx(label.good[0].margin, abs=1e-3), label.key
        assert score.reward(question.gold) == 1 or label.good[0].margin < 1e-3


@pytest.mark.slow
def test_scores_of_gemma_are_true(gemma32: Backbone) -> None:
    """A few questions of each task through every chain, alone."""
    for part in ("pool", "held"):
        for store in open_stores(MENUS / "gemma" / part):
            assert store.manifest.model.fingerprint == gemma32.fingerprint
            questions, labels = store.questions(), store.read()
            judge = make_judge(gemma32, store.manifest.scoring, cache_gib=0)
            for label in random.Random(0).sample(labels, 2):
                question = questions[label.key]
                judge.open(as_sample(question))
                for trial in label.trials:
                    score = judge.score([(label.key, trial.chain)])[0]
                    assert score.values == pytest.approx(trial.scores, abs=2e-3), (label.key, trial.chain)
                judge.close(label.key)
