"""The judge of layer recipes: what it reads, what it draws beside them, and that luck is not taken for a gain."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.evaluate.recipes import judged, pick, random_recipes, read_recipes, sentences

Command = Callable[..., tuple[int, str]]
MERGE = """
merge_method: passthrough
slices:
  - sources: [{model: org/name, layer_range: [0, 20]}]
  - sources: [{model: org/name, layer_range: [16, 30]}]
"""


def test_recipes_are_texts_files_and_merges(tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("# of a paper\n0-16 (17)x2 18-29\n\n0-17 20-29  # shorter\n")
    (tmp_path / "merge.yaml").write_text(MERGE)
    assert list(map(str, read_recipes(str(tmp_path / "many.txt"), 30))) == ["0-16 (17)x2 18-29", "0-17 20-29"]
    assert list(map(str, read_recipes(str(tmp_path / "merge.yaml"), 30))) == ["0-15 (16-19)x2 20-29"]
    assert list(map(str, read_recipes("0-3 5-29", 30))) == ["0-3 5-29"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "0-40\n", "line 1: '0-40' in chain '0-40'"),
        ("a.txt", "# nothing\n", "holds no chains"),
        ("a.yaml", "slices: 3", "is no mergekit merge with slices"),
        ("a.yaml", MERGE.replace("passthrough", "slerp"), "is no passthrough of the layers of one model"),
        ("a.yaml", MERGE.replace("org/name, layer_range: [16", "other/name, layer_range: [16"), "of one model"),
        ("a.yaml", MERGE.replace("30]}", "30], parameters: {scale: 0.5}}"), "of one model"),
        ("a.yaml", MERGE.replace("30]", "31]"), "layer 30 is not in the backbone"),
    ],
)
def test_what_is_no_recipe(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        read_recipes(str(tmp_path / name), 30)
    assert message in str(error.value)


def test_random_recipes_have_the_same_edits() -> None:
    recipes = [Chain.parse(text, 30) for text in ("0-16 (17)x2 18-29", "0-3 6-10 12-29")]
    found = random_recipes(recipes, 20, random.Random(0))
    assert len(found) == len(set(found)) == 20
    assert not set(found) & set(recipes)
    for chain in found:
        assert chain.depth in (31, 27)
        assert len(chain.edits()) in (1, 2)
    assert random_recipes(recipes[:1], 99, random.Random(0)) == random_recipes(recipes[:1], 99, random.Random(0))
    assert len(random_recipes(recipes[:1], 99, random.Random(0))) == 29  # there are no more
    assert random_recipes([Chain.parse("29 3 0", 30)], 4, random.Random(0)) == []


def right(rates: list[float], count: int, seed: int) -> Any:
    return (numpy.random.default_rng(seed).random((count, len(rates))) < numpy.array(rates)).astype(float)


def test_luck_is_no_gain() -> None:
    """Recipes that know nothing: the best of 20 seems to gain, none is called better; one that knows more is."""
    recipes = [Chain.parse(f"0-{layer} {layer + 2}-29", 30) for layer in range(20)]
    better = 0
    for seed in range(40):
        rewards = {"choices": right([0.5] * 21, 200, seed)}
        better += any(one["choices"].better for one in judged(rewards, recipes, 0).values())
    assert better <= 6  # 5% of 40, and chance
    found = pick(rewards["choices"][:, 1:] - rewards["choices"][:, :1], 0)
    assert found is not None
    assert found.seeming > found.real + 0.03
    rewards["choices"][:, 1] = right([0.8], 200, 99)[:, 0]
    verdicts = judged(rewards, recipes, 0)
    assert verdicts[str(recipes[0])]["choices"].better
    [line] = sentences(verdicts, {"choices": found})
    assert line.startswith(f"Right answers to choices: 1 of 20 recipes are above the plain model (best: {recipes[0]}, ")
    assert "The best of 20 random recipes of the same form seems to gain +" in line


def test_the_command(command: Command, tmp_path: Path) -> None:
    arguments = ["cola_learn.evaluate", "chains", "0-16 (17)x2 18-29", "--limit", "6", "--controls", "2"]
    arguments += ["--tasks", "arc_easy:validation", "text_news:validation", "--output", tmp_path / "out"]
    code, said = command(*arguments)
    assert code == 0, said
    report = (tmp_path / "out" / "report.md").read_text()
    assert report.startswith("Right answers to choices: 0-16 (17)x2 18-29 is not above the plain model (")
    assert "Likelihood of texts: 0-16 (17)x2 18-29 is not above the plain model (" in report
    code, said = command(*arguments)  # goes on from the scores
    assert code == 0, said
    assert (tmp_path / "out" / "report.md").read_text() == report
    code, said = command("cola_learn.evaluate", "chains", "0-29")
    assert code == 2
    assert "recipe 0-29 is the plain model" in said
