"""Reports of made-up results, against what they have to say."""

import dataclasses
import json
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.chains import Chain
from cola_learn.evaluate.breakdown import counts_by_group, groupings
from cola_learn.evaluate.costs import Cost
from cola_learn.evaluate.page import layer_shares, write_html
from cola_learn.evaluate.report import Report
from cola_learn.evaluate.results import Evaluated, LuckControl, Result, means_of_seeds
from cola_learn.evaluate.static_front import HeldFront, StaticFront
from cola_learn.evaluate.tables import as_markdown, cells, policy_table
from cola_learn.tasks.questions import Question

EVIL = "<script>alert('x')</script> & {{ 7 * 7 }}"
BASE, SHORT = Chain.base(6), Chain.parse("0-3 5", 6)


def result(policy: str, rewards: list[int]) -> Result:
    chain = BASE if policy == "base" else SHORT
    answers = tuple(0 if reward else 1 for reward in rewards)
    return Result(
        policy,
        numpy.array(rewards, dtype=float),
        numpy.full(len(rewards), float(chain.depth)),
        chains=(chain,) * len(rewards),
        answers=answers,
        oracle="oracle" in policy,
    )


def made_up(rewards: dict[str, list[int]], luck: LuckControl | None = None) -> tuple[Report, Evaluated]:
    """Of the policies named; the others do as base does."""
    base = rewards["base"]
    names = ("base", "static", "controller", "search_oracle")
    results = tuple(result(name, rewards.get(name, base)) for name in names)
    questions = tuple(Question(EVIL, "s", str(place), EVIL, (EVIL, "b"), 0) for place in range(len(base)))
    front = HeldFront(StaticFront(numpy.array([5.0]), (0,)), (SHORT,), results[1].rewards[:, None])
    groups = groupings(questions, None, numpy.arange(len(base), dtype=float))
    costs = {name: Cost(0.75, 0.8, 4) for name in names if "oracle" not in name}
    evaluated = Evaluated(questions, results, front, groups, costs, luck)
    setting = {"tasks": EVIL, "labels": "u", "command": "c"}
    counts = counts_by_group(groups)
    report = Report(len(base), 9, counts, {"controller": "abc"}, setting, evaluated.rows(), luck)
    return report, evaluated


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60))
def test_rows_count_by_hand(triples: list[tuple[int, int, int]]) -> None:
    base, static, mine = (list(column) for column in zip(*triples, strict=True))
    report, _ = made_up({"base": base, "static": static, "controller": mine})
    row, n = report.main, len(triples)
    assert row.accuracy == pytest.approx(sum(mine) / n)
    assert row.won == sum(one > other for one, other in zip(mine, base, strict=True))
    assert row.lost == sum(one < other for one, other in zip(mine, base, strict=True))
    assert row.to_base.mean == pytest.approx((sum(mine) - sum(base)) / n)
    assert row.to_base.low - 1e-9 <= row.to_base.mean <= row.to_base.high + 1e-9
    assert row.to_static is not None
    assert row.to_static.mean == pytest.approx((sum(mine) - sum(static)) / n)
    assert row.corrected == pytest.approx(row.won / (n - sum(base)) if sum(base) < n else 0)
    assert (row.depth, row.unique_depth) == (5, 5)


def test_a_controller_that_loses_says_so_first() -> None:
    report, _ = made_up({"base": [1, 1, 0, 0], "static": [1, 1, 1, 0], "controller": [1, 0, 0, 0]})
    assert report.headline.startswith(
        "The controller is 50.0 points below the static front at equal depth (95% CI -100.0"
    )
    assert "; 25.0 points below the plain model (95% CI -75.0 to +0.0, not significant) with" in report.headline
    assert "17% fewer layers and 20% less time, on 4 held-out questions." in report.headline
    report, _ = made_up({"base": [1, 1, 0, 0], "static": [1, 0, 0, 0], "controller": [1, 0, 1, 1]})
    assert report.headline.startswith(
        "The controller is 50.0 points above the static front at equal depth (95% CI +0.0"
    )
    report, _ = made_up({"base": [1, 1, 0, 0]})
    assert report.headline.startswith("The controller is level with the static front at equal depth (")


def test_stars_and_p_values_are_of_one_correction() -> None:
    """The terminal's star, the page's p and the words of the headline, over all deployable policies (Holm)."""
    base, mine = [0] * 9, [1] * 6 + [0] * 3  # p = 0.031 alone, 0.0625 beside another comparison
    report, _ = made_up({"base": base, "static": base, "controller": mine})
    assert report.main.p_base == pytest.approx(0.03125)
    assert report.p_holm["to_base"]["controller"] == pytest.approx(0.0625)
    assert "*" not in cells(report, report.main)["Δ base"]
    assert "points above the plain model (95% CI +33.3 to +100.0, not significant)" in report.headline
    assert "| 0.062 |" in "\n".join(policy_table(report, report.rows))
    report, _ = made_up({"base": [0] * 12, "static": [0] * 12, "controller": [1] * 12})
    assert cells(report, report.main)["Δ base"].endswith("*")
    assert "to +100.0, significant)" in report.headline


def test_what_is_shallower_than_all_static_chains_says_so() -> None:
    report, evaluated = made_up({"base": [1, 1, 0, 0]})
    rows = dataclasses.replace(
        evaluated, front=dataclasses.replace(evaluated.front, front=StaticFront(numpy.array([5.5]), (0,)))
    ).rows()
    assert rows[2].to_static is None
    deep = dataclasses.replace(report, rows=rows)
    assert deep.headline.startswith("The controller is shallower than every static chain; ")


def test_page_escapes_dataset_text_and_loads_nothing(tmp_path: Path) -> None:
    report, evaluated = made_up({"base": [1, 0, 1], "controller": [0, 1, 1]})
    write_html(tmp_path / "report.html", report, evaluated)
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 4  # in the title, the questions and their options
    assert "{{ 7 * 7 }}" in page
    assert page.count("<svg") == 1
    assert page.count("<article>") == 2  # one question won, one lost
    for outside in ("<img", "<link", "@import", 'src="http', 'href="http'):
        assert outside not in page


def test_an_answer_that_is_no_option_is_not_shown_as_one(tmp_path: Path) -> None:
    report, evaluated = made_up({"base": [1, 0, 1], "controller": [0, 0, 0]})
    asked = tuple(dataclasses.replace(question, open=True) for question in evaluated.questions)
    results = list(evaluated.results)
    results[2] = dataclasses.replace(results[2], answers=(-1, -1, -1))
    write_html(
        tmp_path / "report.html", report, dataclasses.replace(evaluated, questions=asked, results=tuple(results))
    )
    page = (tmp_path / "report.html").read_text()
    assert page.count("<article>") == 2
    assert page.count('<li class="gold">gold: ') == 2
    assert "<li>b" not in page


def test_json_has_what_machines_need() -> None:
    report, _ = made_up({"base": [1, 0, 1]}, LuckControl(1, 1.0))
    written = json.loads(json.dumps(report.as_json()))
    assert Report.from_json(written) == report
    assert written["n"] == 3
    assert written["headline"] == report.headline
    assert [row["policy"] for row in written["rows"]] == ["base", "static", "controller", "search_oracle"]
    for row in written["rows"]:
        assert {"accuracy", "depth", "unique_depth", "won", "lost", "to_base", "to_static", "cost"} <= row.keys()
        assert row["to_base"].keys() == {"mean", "low", "high"}
    assert written["rows"][0]["to_base"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    with pytest.raises(ValueError, match="policy static is missing"):
        Report.from_json({**written, "rows": [row for row in written["rows"] if row["policy"] != "static"]})


def test_the_best_deployable_policy_is_named_with_its_cost() -> None:
    report, _ = made_up({"base": [1, 0, 0, 0], "static": [1, 1, 1, 0], "controller": [1, 1, 0, 0]})
    assert report.best == (
        "Best deployable policy: static (chain 0-3 5), 75.0% with 5.0 layers, 75% of base's FLOPs and 80% of its time; "
        "50.0 points above the plain model (95% CI +0.0 to +100.0, not significant)."
    )
    base, static, mine, search = report.rows
    cheap = dataclasses.replace(static, policy="controller", cost=Cost(0.5, 0.5, 4))
    assert dataclasses.replace(report, rows=(base, static, cheap, search)).best.startswith(
        "Best deployable policy: controller (chain 0-3 5), "
    )
    assert mine.p_base == report.p_holm["to_base"]["controller"] == 1


def test_the_luck_control_is_told_beside_the_search() -> None:
    rewards = {"base": [1, 0, 0, 0], "search_oracle": [1, 1, 1, 0]}
    report, _ = made_up(rewards, LuckControl(3, 1 / 3))
    said = "base gets wrong, search corrects 67%; the same search for another wrong option succeeds in 33% of 3."
    assert said in report.luck_said
    assert said in as_markdown(report)
    assert "search_oracle" not in report.p_holm["to_base"]


def test_seeds_are_averaged() -> None:
    results = [result("mine-0", [1, 0, 1]), result("mine-1", [1, 1, 0]), result("other", [0, 0, 0])]
    [mean] = means_of_seeds(results, ["mine-0", "mine-1", "other"])
    assert mean.policy == "mine, mean of 2"
    assert mean.rewards.tolist() == [1, 0.5, 0.5]
    assert mean.layers.tolist() == [5, 5, 5]
    assert mean.chains is None


def test_shares_of_layers() -> None:
    chains = [Chain.parse(text, 4) for text in ("0-3", "0 2-3", "0 (2)x3 3", "0-2 (3)x2")]
    assert layer_shares(chains) == [(0.0, 0.0), (0.5, 0.0), (0.0, 0.25), (0.0, 0.25)]
