"""Policies over a menu: against counts made by hand, blind to held-out gold answers, and from command to report."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import pyarrow.parquet
import pytest
import torch

from benchmarks.opponents.logistic import LOGISTIC
from benchmarks.opponents.routers import DRLLM, POLAR
from cola_learn.chains import Chain, SearchSpace
from cola_learn.evaluate.breakdown import groupings, leads, reliability
from cola_learn.evaluate.comparison import evaluate_stored
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.evaluation import is_blind
from cola_learn.evaluate.policies import Policy
from cola_learn.evaluate.results import PolicyRow
from cola_learn.evaluate.tables import heights
from cola_learn.label.score_matrix import ScoreMatrix
from cola_learn.tasks.questions import Question, Sample
from cola_learn.train.choice import ChoiceRule
from cola_learn.train.controller import Controller
from cola_learn.train.controller_config import ControllerConfig

Command = Callable[..., tuple[int, str]]
BLIND = [False, False, False, False, True, True, False, False]
MENU = ("0-5", "0-3 5", "0-2 5", "0-1 5")


def table_of(seed: int, size: int = 200, first: int = 0) -> ScoreMatrix:
    """Random scores; each chain is a little better than the base chain on its own task."""
    draws = numpy.random.default_rng(seed)
    questions = tuple(
        Question(f"task{row % 3}", "s", str(first + row), f"text {row}", ("a", "b", "c"), int(draws.integers(3)))
        for row in range(size)
    )
    scores = draws.normal(0, 1, (size, len(MENU), 3))
    for row, question in enumerate(questions):
        scores[row, 1 + row % 3, question.gold] += 1.0
    return ScoreMatrix.of_options(tuple(Chain.parse(text, 6) for text in MENU), questions, scores, {})


def rows_of(pool: ScoreMatrix, held: ScoreMatrix, **changes: object) -> tuple[PolicyRow, ...]:
    torch.manual_seed(0)
    config = ControllerConfig(6, 16, SearchSpace(2, 1), (0, 1), 32, 1, 2, 0.0, menu=MENU)
    controller = Controller(config, ChoiceRule("gain")).eval()
    torch.nn.init.normal_(controller.read.weight, std=1.0)

    def features(questions: Sequence[Question], layers: object) -> list[torch.Tensor]:
        """The task can be read off the prompt."""
        found = []
        for question in questions:
            draw = torch.Generator().manual_seed(int(question.id))
            prompt = torch.randn(4, 2, 16, generator=draw)
            prompt[:, :, int(question.task[-1])] += 4
            found.append(prompt)
        return found

    options = EvaluateOptions(
        **{"labels": Path("pool"), "held": Path("held"), "depths": [0.7, 1.0], "learners": True, **changes}
    )  # type: ignore[arg-type]

    def brief(samples: Sequence[Sample]) -> list[str]:
        return ["0-3 5" if len(sample.prompt) % 2 else "0-5" for sample in samples]

    def shorter(samples: Sequence[Sample], price: float) -> list[Chain]:
        """The dearer, the more prompts run three layers: those whose numbers are low."""
        numbers = [int(sample.prompt.split()[2]) % 100 for sample in samples]
        return [Chain.parse("0-1 5" if number < 100 * price else "0-5", 6) for number in numbers]

    own = [Policy("brief", brief), Policy("shorter", shorter, priced=True), LOGISTIC, DRLLM, POLAR]
    return evaluate_stored(pool, held, {"mine": controller}, own, features, options).rows()


def test_other_gold_answers_change_nothing_that_is_chosen() -> None:
    """Depth shows what was chosen: with other gold answers every policy runs the same layers, but for the oracle."""
    pool, held = table_of(2), table_of(3, first=1000)
    moved = ScoreMatrix.of_options(
        held.chains,
        tuple(dataclasses.replace(question, gold=(question.gold + 1) % 3) for question in held.questions),
        held.scores,
        held.temperatures,
    )
    one, other = rows_of(pool, held), rows_of(pool, moved)
    assert [row.policy for row in one] == [row.policy for row in other]
    for mine, others in zip(one, other, strict=True):
        if mine.policy == "menu_oracle":
            continue
        assert (mine.depth, mine.static) == (others.depth, others.static), mine.policy
        keys = ("base_share", "largest_share", "entropy_bits", "task_information_bits")
        assert [mine.collapse.get(key) for key in keys] == [others.collapse.get(key) for key in keys]


def test_what_can_be_read_off_the_prompt_is_found() -> None:
    """Each task has a chain of its own: choosing by task beats every static chain, and shuffled prompts lose it."""
    rows = {(row.policy, row.target): row for row in rows_of(table_of(4, 900), table_of(5, 900, 1000))}
    base = rows["base", None]
    assert base.to_base.mean == 0
    assert base.p_base == 1
    for name in ("static_per_task_oracle", "ridge", "task_reader", "logistic", "polar"):
        row = rows[name, 1.0]
        assert row.to_static is not None
        assert row.to_static.low > 0, name
        assert row.p_static is not None
        assert row.p_static < 0.05
        assert row.collapse["task_information_bits"] > 0.5
    for row in rows.values():
        assert row.target is None or row.depth <= 6 * row.target + 0.15, row.policy
        assert sum(row.by_group["task"].values()) / 3 == pytest.approx(row.to_base.mean, abs=0.005)
    assert rows["shorter", 1.0].depth == 6  # free, nothing is skipped
    assert 0.65 * 6 < rows["shorter", 0.7].depth <= 0.7 * 6 + 0.15
    assert rows["shorter", 0.7].price == pytest.approx(0.6, abs=0.05)
    own, single = rows["mine", None], rows["static", None]
    assert single.depth <= max(own.depth, 3)
    assert rows["brief", None].unique_depth == rows["brief", None].depth
    static = rows["static_front", 0.7]
    assert static.to_static is not None
    assert static.to_static.mean == pytest.approx(0, abs=1e-9)
    assert static.p_static == 1


def test_groups_are_thirds_and_reliability_is_counted_by_hand() -> None:
    table = table_of(6, 90)
    groups = groupings(table.questions, leads(table.probabilities[:, 0]), -table.soft.mean(1))
    assert set(groups) == {"task", "length", "lead of base", "difficulty"}
    assert {int((groups["difficulty"] == third).sum()) for third in set(groups["difficulty"])} == {30}
    hardest = groups["difficulty"] == "highest third"
    assert table.soft[hardest].mean() < table.soft[~hardest].mean()
    predicted = numpy.zeros((50, 3))
    predicted[:, 1] = numpy.arange(50) / 50
    predicted[:, 2] = -predicted[:, 1] - 0.01
    soft = numpy.zeros((50, 3))
    soft[:, 1:] = 2 * predicted[:, 1:]
    found = reliability("mine", predicted, soft)
    assert found.realised == pytest.approx([2 * value for value in found.predicted])
    assert found.error == pytest.approx(numpy.abs(predicted[:, 1:]).mean())
    assert found.correlation == pytest.approx(1)


def test_height_over_the_front_is_the_area_between_the_curves() -> None:
    rows = rows_of(table_of(2), table_of(3, first=1000), learners=False)
    found = {name: (low, high, height) for name, low, high, height in heights(rows)}
    assert found["static_front"][2] == pytest.approx(0, abs=1e-9)
    own = [row for row in rows if row.policy == "mine" and row.target]
    mine = sorted((row.depth, row.to_static.mean) for row in own if row.to_static)
    (low, one), (high, other) = mine
    assert found["mine"] == pytest.approx((low, high, (one + other) / 2))


def test_the_blind_fifth_is_the_same_for_everybody() -> None:
    keys = [f"task/s/{number}" for number in range(5000)]
    assert 0.17 < sum(map(is_blind, keys)) / len(keys) < 0.23
    assert [is_blind(f"sciq/validation/{number}") for number in range(8)] == BLIND


def test_from_scores_to_report(command: Command, tmp_path: Path) -> None:
    (tmp_path / "menu.txt").write_text("0-16 (17)x2 18-29\n0-17 20-29\n0-16 21-23 26-29\n")
    for name, tasks in (
        ("pool", ("commonsense_qa:validation[:75%]", "sciq:validation[:75%]")),
        ("held", ("commonsense_qa:validation[75%:]", "sciq:validation[75%:]")),
    ):
        code, said = command(
            *(
                "cola_learn.label",
                "--config",
                "menu",
                "--search.file",
                tmp_path / "menu.txt",
                "--tasks",
                *tasks,
                "--limit",
                "12",
            ),
            *("--output", tmp_path / name, "--verify", "off"),
        )
        assert code == 0, said
    code, said = command(
        *("cola_learn.train", "--config", "configs/train/menu.yaml", "--labels", tmp_path / "pool"),
        *("--output", tmp_path / "value", "--trainer.max_epochs", "1", "--tracking", "disabled"),
    )
    assert code == 0, said
    folder = tmp_path / "value" / "controller"
    code, said = command("cola_learn.export", "--checkpoint", tmp_path / "value" / "best.ckpt", "--output", folder)
    assert code == 0, said
    assert "predicted gain" in (folder / "README.md").read_text()
    arguments = ("--labels", tmp_path / "pool", "--controllers", folder, "--tracking", "disabled")
    evaluate = ("cola_learn.evaluate", *arguments, "--output", tmp_path / "evaluate")
    logistic = ("--policies", "benchmarks.opponents.logistic.LOGISTIC")
    code, said = command(*evaluate, "--held", tmp_path / "held", *logistic)
    assert code == 0, said
    report = json.loads((tmp_path / "evaluate" / "report.json").read_text())
    assert report["n"] == 24
    names = {row["policy"] for row in report["rows"]}
    assert {"base", "static", "static_front", "static_per_task_oracle", "ridge"} <= names
    assert {"task_reader", "logistic", "controller", "menu_oracle"} <= names
    rows = pyarrow.parquet.read_table(tmp_path / "evaluate" / "questions.parquet").to_pylist()
    for row in report["rows"]:  # by plain loops over the questions
        name = row["policy"] if row["target"] is None else f"{row['policy']} at {row['target']:.0%}"
        own = {one["question"]: one for one in rows if one["policy"] == name}
        base = {one["question"]: one["reward"] for one in rows if one["policy"] == "base"}
        assert own.keys() == base.keys()
        assert sum(one["reward"] for one in own.values()) / 24 == pytest.approx(row["accuracy"])
        assert sum(one["depth"] for one in own.values()) / 24 == pytest.approx(row["depth"])
        difference = sum(one["reward"] - base[key] for key, one in own.items()) / 24
        assert difference == pytest.approx(row["to_base"]["mean"])
        assert (row["to_shuffled_in_task"] is not None) == (row["policy"] == "controller")
    page, text = ((tmp_path / "evaluate" / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert "| controller |" in text
    for said in ("By difficulty", "By task", "Do predicted gains come true?", "Mean height over the static front"):
        assert said in page
    assert page.count("<svg") == 2
    assert (tmp_path / "evaluate" / "curves.svg").read_text().startswith("<svg")
    assert (tmp_path / "evaluate" / "reliability.svg").read_text().startswith("<svg")
    assert [one["controller"] for one in report["reliability"]] == ["controller"]
    assert all((row["price"] is not None) == (row["policy"] == "controller") for row in report["rows"])
    parts = {}
    for part in ("open", "blind"):
        more = ("--part", part, "--learners", "false", "--output", tmp_path / part)
        code, said = command("cola_learn.evaluate", *arguments, "--held", tmp_path / "held", *more)
        assert code == 0, said
        asked = pyarrow.parquet.read_table(tmp_path / part / "questions.parquet").to_pylist()
        parts[part] = {row["question"] for row in asked}
        assert f"sciq validation, {part} part)" in (tmp_path / part / "report.md").read_text()
    assert not parts["open"] & parts["blind"]
    assert parts["open"] | parts["blind"] == {row["question"] for row in rows}
    cheap = ("--checkpoint", tmp_path / "value" / "best.ckpt", "--output", tmp_path / "cheap", "--price", "0.07")
    code, said = command("cola_learn.export", *cheap)
    assert code == 0, said
    assert Controller.from_pretrained(tmp_path / "cheap").rule.price == 0.07
    shown = ("--checkpoint", folder, "--output", tmp_path / "shown", "--report", tmp_path / "evaluate")
    code, said = command("cola_learn.export", *shown)
    assert code == 0, said
    card = (tmp_path / "shown" / "README.md").read_text()
    assert "On 24 held-out questions (commonsense_qa, sciq)" in card
    for row in report["rows"]:
        if row["policy"] in ("base", "static", "static_front", "controller"):
            assert f" | {row['depth']:.1f} | {row['accuracy']:.1%} | " in card
    code, said = command("cola_learn.evaluate", *arguments, "--held", tmp_path / "pool")
    assert code == 2
    assert "are among --labels" in said
    code, said = command(
        *("cola_learn.train", "--config", "configs/train/menu.yaml", "--labels", tmp_path / "pool"),
        *("--output", tmp_path / "no", "--model.objective", "value", "--data.trials", "good"),
        *("--tracking", "disabled"),
    )
    assert code == 2
    assert "--model.objective value needs the same chains on every question" in said
