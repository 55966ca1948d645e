import dataclasses
from pathlib import Path

from cola_learn.chains import Chain
from cola_learn.evaluate.costs import Cost
from cola_learn.evaluate.report import EXPLAINED, Report, layer_shares, write_html
from cola_learn.evaluate.statistics import Outcome, sees_gold, summarize_policy
from cola_learn.tasks.questions import Question

EVIL = "<script>alert('x')</script> & {{ 7 * 7 }}"


def made_up(rewards: dict[str, list[int]]) -> tuple[Report, dict[str, list[Outcome]], dict[str, Question]]:
    base, short = Chain.base(6), Chain.parse("0-3 5", 6)
    count = len(rewards["base"])
    outcomes = {
        name: [
            Outcome(f"t/s/{i}", base if name == "base" else short, float(found[i]), float(rewards["base"][i]), 0, 0)
            for i in range(count)
        ]
        for name in EXPLAINED
        for found in [rewards.get(name, rewards["base"])]
    }
    questions = {f"t/s/{i}": Question("t", "s", str(i), EVIL, (EVIL, "b"), 0) for i in range(count)}
    setting = {"task": EVIL, "split": "s", "labels": "u", "command": "c"}
    summaries = {name: summarize_policy(rows) for name, rows in outcomes.items()}
    costs = {name: Cost(0.75, 0.8, 4) for name in EXPLAINED if not sees_gold(name)}
    return Report(count, summaries, costs, setting), outcomes, questions


def test_a_controller_that_loses_says_so_first() -> None:
    report, _, _ = made_up({"base": [1, 1, 0, 0], "static": [1, 1, 1, 0], "controller": [1, 0, 0, 0]})
    assert report.headline.startswith("The controller loses to the best static chain of no more depth by 50.0 points")
    assert "-25.0 points" in report.headline
    assert "4 held-out questions" in report.headline
    report, _, _ = made_up({"base": [1, 1, 0, 0], "static": [1, 0, 0, 0], "controller": [1, 0, 1, 1]})
    assert report.headline.startswith("The controller is 50.0 points above")


def test_page_escapes_dataset_text_and_loads_nothing(tmp_path: Path) -> None:
    report, outcomes, questions = made_up({"base": [1, 0, 1], "controller": [0, 1, 1]})
    write_html(tmp_path / "report.html", report, outcomes, questions)
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 4  # in the title, the questions and their options
    assert "{{ 7 * 7 }}" in page
    assert page.count("<svg") == 1
    assert page.count("<article>") == 2  # one question won, one lost
    for outside in ("<img", "<link", "@import", 'src="http', 'href="http'):
        assert outside not in page


def test_an_answer_that_is_no_option_is_not_shown_as_one(tmp_path: Path) -> None:
    """The wrong answer that the luck control looks for is never what the model said."""
    report, outcomes, questions = made_up({"base": [1, 0, 1]})
    questions = {key: dataclasses.replace(question, open=True) for key, question in questions.items()}
    outcomes["controller"] = [dataclasses.replace(row, choice=-1, reward=0.0) for row in outcomes["controller"]]
    write_html(tmp_path / "report.html", report, outcomes, questions)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<article>") == 2
    assert page.count('<li class="gold">gold: ') == 2
    assert "<li>b" not in page


def test_json_has_what_machines_need() -> None:
    report, _, _ = made_up({"base": [1, 0, 1]})
    written = report.as_json()
    assert Report.from_json(written) == report
    assert written["n"] == 3
    assert list(written["policies"]) == list(EXPLAINED)
    for row in written["policies"].values():
        assert {"accuracy", "depth", "unique_depth", "transitions", "difference"} <= row.keys()
        assert row["difference"].keys() == {"mean", "low", "high"}
    assert dataclasses.asdict(report.policies["base"].difference) == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_the_best_deployable_policy_is_named_with_its_cost() -> None:
    report, _, _ = made_up({"base": [1, 0, 0, 0], "static": [1, 1, 1, 0], "controller": [1, 1, 0, 0]})
    assert report.best == (
        "Best deployable policy: static, 75.0% with 5.0 layers, 75% of base's FLOPs and 80% of its time."
    )
    costs = {**report.costs, "controller": Cost(0.5, 0.5, 4)}
    equal = dataclasses.replace(
        report, costs=costs, policies={**report.policies, "static": report.policies["controller"]}
    )
    assert equal.best.startswith("Best deployable policy: controller, ")


def test_the_luck_control_has_no_difference_to_base() -> None:
    report, _, _ = made_up({"base": [1, 0, 0, 0], "search_oracle": [1, 1, 1, 0], "luck_control": [1, 1, 0, 0]})
    assert "luck_control" not in report.compared
    assert (
        "base gets wrong, search corrects 67%; the same search for another wrong option succeeds in 33%" in report.luck
    )


def test_shares_of_layers() -> None:
    chains = [Chain.parse(text, 4) for text in ("0-3", "0 2-3", "0 (2)x3 3", "0-2 (3)x2")]
    assert layer_shares(chains) == [(0.0, 0.0), (0.5, 0.0), (0.0, 0.25), (0.0, 0.25)]
