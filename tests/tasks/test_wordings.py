"""Several wordings of a question, against scoring each of them by itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.label.store import LabelStore
from cola_learn.tasks.judges import make_judge
from cola_learn.tasks.load import load_task
from cola_learn.tasks.option_scorer import OptionScorer
from cola_learn.tasks.questions import Metric, Question, as_sample
from cola_learn.tasks.rewording import REWORDED, reworded
from cola_learn.tasks.scores import OptionScores
from cola_learn.tasks.scoring import Scoring
from cola_learn.tasks.wordings import WordedScores

Command = Callable[..., tuple[int, str]]
CHAINS = (Chain.base(30), Chain.parse("0-17 20-29", 30), Chain.parse("0-16 (17)x2 18-29", 30))


@pytest.mark.parametrize(
    ("prompt", "template", "expected"),
    [
        ("Question: Why?\nAnswer:", "Q: {question}\nA:", "Q: Why?\nA:"),
        ("Question: Why?\nHow?\nAnswer:", "{question}\nThe answer is", "Why?\nHow?\nThe answer is"),
        ("Question: {x}\nAnswer:", "Q: {question}\nA:", "Q: {x}\nA:"),
        ("A cat sits", "Go on.\n{question}\nA:", "Go on.\nA cat sits"),
    ],
)
def test_only_what_is_around_the_question_changes(prompt: str, template: str, expected: str) -> None:
    sample = as_sample(Question("t", "s", "1", prompt, ("a", "b"), 0, prefix="", suffix=""))
    found = reworded(sample, template)
    assert (found.prompt, set(found.contexts)) == (expected, {expected})
    assert (found.continuations, found.lengths, found.key) == (sample.continuations, sample.lengths, sample.key)


@pytest.mark.parametrize(
    ("parts", "choice"),
    [
        ([(1, 0), (1, 0), (1, 0)], 0),
        ([(1, 0), (1, 0), (0, 1)], 0),
        ([(1, 0), (0, 1), (0, 1)], -1),
        ([(0, 1), (1, 0), (1, 0)], -1),
        ([(1, 0), (0, 1)], -1),
        ([(1, 0)], 0),
    ],
)
def test_two_thirds_have_to_agree_with_the_first(parts: list[tuple[float, float]], choice: int) -> None:
    scores = WordedScores(tuple(map(OptionScores, parts)))
    assert scores.choice == choice
    assert [scores.reward(gold) for gold in (0, 1)] == [float(choice == 0), float(choice == 1)]
    assert scores.values == pytest.approx([sum(column) / len(parts) for column in zip(*parts, strict=True)])


@pytest.mark.parametrize("metric", ["acc_norm", "pmi"])
def test_each_wording_is_scored_as_by_itself(smollm32: Backbone, arc: list[Question], metric: Metric) -> None:
    judge = make_judge(smollm32, Scoring(metric=metric, reward="choices", wordings=3))
    alone = OptionScorer(Executor(smollm32), metric)
    for question in arc[:2]:
        sample = as_sample(question)
        judge.open(sample)
        found = judge.score([(sample.key, chain) for chain in CHAINS])
        judge.close(sample.key)
        for place, template in enumerate([None, *REWORDED[:2]]):
            alone.open(sample if template is None else reworded(sample, template))
            expected = alone.score([(sample.key, chain) for chain in CHAINS])
            alone.close(sample.key)
            for mine, other in zip(found, expected, strict=True):
                assert isinstance(mine, WordedScores)
                assert mine.parts[place].values == pytest.approx(other.values, abs=1e-4)


def test_blanks_are_put_in_other_words_too() -> None:
    [blank] = load_task("winogrande", "validation", 1)
    sample = as_sample(blank)
    found = reworded(sample, "Read on. {question}\nA:")
    assert found.contexts == tuple(f"Read on. {context}" for context in sample.contexts)


def test_what_cannot_be_reworded_is_refused(arc: list[Question]) -> None:
    for changes, message in (
        ({"wordings": 0}, "wordings is 0; give 1 to 4"),
        ({"wordings": 5}, "wordings is 5; give 1 to 4, or more templates with reworded"),
        ({"reworded": ("Q:",)}, "reworded has 'Q:'; a wording holds {question} once"),
    ):
        with pytest.raises(ValueError, match=message):
            Scoring(**changes)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is for questions whose options are scored as texts"):
        Scoring(template="letter", wordings=2).of(arc)


def test_labels_remember_their_wordings(command: Command, tmp_path: Path) -> None:
    output = tmp_path / "labels"
    arguments = ("--limit", "2", "--search.simulations", "4", "--output", output, "--tracking", "disabled")
    mine = ("--wordings", "2", "--reworded", json.dumps(["Tell me: {question}\nAnswer:"]))
    code, said = command("cola_learn.label", *arguments, *mine)
    assert code == 0, said
    assert "also worded  'Tell me: {question}" in said
    store = LabelStore.open(output)
    assert store.manifest.wordings == ("Tell me: {question}\nAnswer:",)
    assert store.manifest.scoring.other_wordings == store.manifest.wordings
    code, said = command("cola_learn.label", "verify", output, "--chains", "all")
    assert code == 0, said
    code, said = command("cola_learn.label", *arguments)
    assert code == 2
    assert "holds labels made with wordings" in said
