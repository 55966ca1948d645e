"""Invariant 4 from the label stage's side: what is stored as good was right when run again alone."""

from dataclasses import replace

import pytest

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.label.driver import label_questions
from cola_learn.label.labeller import Verifier
from cola_learn.label.plan import Plan
from cola_learn.label.records import Label
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.search.methods import MCTS
from cola_learn.tasks.questions import Question


@pytest.fixture(scope="module")
def found(smollm: Backbone, arc: list[Question]) -> tuple[OptionScorer, Question, Label]:
    """A search with several good chains."""
    scorer = OptionScorer(Executor(smollm))
    rounds = label_questions(scorer, arc[:6], Plan(MCTS(10)))
    pairs = [pair for finished in rounds for pair in finished]
    return scorer, *max(pairs, key=lambda pair: len(pair[1].good))


def test_a_true_label_is_left_as_it_is(found: tuple[OptionScorer, Question, Label]) -> None:
    scorer, question, label = found
    assert label.luck
    kept = replace(label, luck=label.luck.shallower())
    for mode, checked in (("off", 0), ("auto", 1), ("good", len(label.good))):
        verifier = Verifier(scorer, "cloze", mode)  # type: ignore[arg-type]
        assert verifier(question, label) == kept
        assert (verifier.checked, verifier.moved, verifier.flipped) == (checked, 0, 0)


def test_what_is_wrong_alone_is_stored_as_wrong(found: tuple[OptionScorer, Question, Label]) -> None:
    """As if company had made every chain look right, and better than it is."""
    scorer, question, label = found
    lucky = replace(label, trials=tuple(replace(trial, reward=1.0, margin=trial.margin + 50) for trial in label.trials))
    verifier = Verifier(scorer, "cloze", "good")
    assert verifier(question, lucky).trials == label.trials
    assert verifier.checked == verifier.moved == len(label.trials)
    assert verifier.flipped == len(label.trials) - len(label.good)


def test_one_difference_ends_the_trust_in_company(found: tuple[OptionScorer, Question, Label]) -> None:
    scorer, question, label = found
    verifier = Verifier(scorer, "cloze", "auto")
    first = label.good[0]
    moved = replace(label, trials=tuple(replace(t, margin=9.0) if t == first else t for t in label.trials))
    assert verifier(question, moved).trials == label.trials
    assert verifier.checked == 1
    assert verifier(question, label).trials == label.trials
    assert verifier.checked == 1 + len(label.good)


def test_the_luck_control_gets_what_the_search_gets(found: tuple[OptionScorer, Question, Label]) -> None:
    """Where company made chains look as if they answered with the wrong option, those that do not so alone are out, and
    a deeper one that does takes the place of a shallower one that does not."""
    scorer, question, label = found
    assert label.luck
    true = label.luck.found
    false = [(trial.chain, 1) for trial in label.trials if trial.chain not in dict(true)]
    shallowest = min(false, key=lambda pair: pair[0].depth)
    mixed = replace(label, luck=replace(label.luck, found=(shallowest, *true)))
    kept = label.luck.shallower().found
    assert true
    for mode, expected in (("good", kept), ("off", replace(label.luck, found=(shallowest, *true)).shallower().found)):
        luck = Verifier(scorer, "cloze", mode)(question, mixed).luck  # type: ignore[arg-type]
        assert luck
        assert luck.found == expected
