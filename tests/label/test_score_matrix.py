"""The table of a menu's scores, against scoring each chain alone."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.errors import UserError
from cola_learn.label.score_matrix import ScoreMatrix, open_stores
from cola_learn.label.store import LabelStore
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.tasks.questions import as_sample

Command = Callable[..., tuple[int, str]]


def test_a_table_holds_what_each_chain_scores_alone(command: Command, tmp_path: Path, smollm: Backbone) -> None:
    menu = tmp_path / "menu.txt"
    menu.write_text("0-13 15-29\n0-22 22-29\n")
    tasks = ("openbookqa:test", "winogrande:validation[:50%]")
    arguments = (
        "--config",
        "menu",
        "--search.file",
        menu,
        "--tasks",
        *tasks,
        "--limit",
        "3",
        "--output",
        tmp_path / "cross",
    )
    code, said = command("cola_learn.label", *arguments)
    assert code == 0, said
    table = ScoreMatrix.load(open_stores(tmp_path / "cross"))
    assert [str(chain) for chain in table.chains] == ["0-29", "0-13 15-29", "0-21 (22)x2 23-29"]
    assert table.scores.shape == (6, 3, 4)
    assert sorted(set(table.tasks.tolist())) == ["openbookqa", "winogrande"]
    scorers = {
        "openbookqa": OptionScorer(Executor(smollm, cache_bytes=0), "pmi"),
        "winogrande": OptionScorer(Executor(smollm, cache_bytes=0), "acc"),
    }
    for row, question in enumerate(table.questions):
        scorer = scorers[question.task]
        scorer.open(as_sample(question))
        for place, chain in enumerate(table.chains):
            alone = scorer.score([(question.key, chain)])[0]
            count = len(question.choices)
            assert table.scores[row, place, :count] == pytest.approx(alone.values, abs=1e-4)
            assert numpy.isneginf(table.scores[row, place, count:]).all()
            assert table.rewards[row, place] == alone.reward(question.gold)
            probability = alone.probability(question.gold, table.temperatures[question.task])
            assert table.soft[row, place] == pytest.approx(math.log(max(probability, 0.001)), abs=1e-4)
        scorer.close(question.key)
    part = table.take(numpy.array([4, 1]))
    assert part.questions == (table.questions[4], table.questions[1])
    assert (part.rewards == table.rewards[[4, 1]]).all()


def test_stores_that_do_not_belong_together_are_named(command: Command, tmp_path: Path) -> None:
    for name, chain in (("one", "0-13 15-29"), ("two", "0-22 22-29")):
        (tmp_path / f"{name}.txt").write_text(chain + "\n")
        code, _ = command(
            *("cola_learn.label", "--config", "menu", "--search.file", tmp_path / f"{name}.txt"),
            *("--tasks", "sciq:validation", "--limit", "2", "--output", tmp_path / "both" / name),
        )
        assert code == 0
    stores = [LabelStore.open(tmp_path / "both" / name) for name in ("one", "two")]
    with pytest.raises(UserError, match="was run through another menu"):
        ScoreMatrix.load(stores)
    with pytest.raises(UserError, match="is not a label store"):
        open_stores(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"template": "letter"}, "differ in scoring.template"),
        ({"metric": "acc"}, "easy-one and easy-two score one task in two ways"),
    ],
)
def test_stores_that_cannot_be_read_together_are_refused(tmp_path: Path, setting: dict[str, str], said: str) -> None:
    for name in ("one", "two"):
        shutil.copytree("data/menu/held/arc_easy-validation", tmp_path / f"easy-{name}")
    assert len(open_stores(tmp_path)) == 2
    manifest = LabelStore.open(tmp_path / "easy-two").manifest
    replace(manifest, scoring=replace(manifest.scoring, **setting)).write(tmp_path / "easy-two")
    with pytest.raises(UserError, match=said):
        open_stores(tmp_path)
