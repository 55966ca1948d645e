import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from cola_learn import Chain, LabelStore, Repeat, Skip
from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.chains import Edit
from cola_learn.errors import UserError
from cola_learn.label.menu import compose, covering, pooled_gains
from cola_learn.label.records import Label, Trial
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.rewards.scores import OptionScores
from cola_learn.rewards.temperature import soft_rewards
from cola_learn.search.listed import read_menu
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Metric, Question, as_sample

Command = Callable[..., tuple[int, str]]


def label(number: int, *good: Chain) -> Label:
    return Label("t", "s", str(number), tuple(Trial(chain, 1.0, 1.0, 1) for chain in good))


def test_covering_takes_what_is_good_for_most_of_those_left() -> None:
    one, two, three = (Chain.parse(text, 6) for text in ("0-4", "0 2-5", "0-5"))
    labels = [label(1, one, three), label(2, one), label(3, one, two), label(4, two), label(5, three)]
    assert covering(labels, 9) == [one, two, three]
    assert covering(labels, 1) == [one]
    assert covering([], 5) == []


def test_a_menu_is_read_and_what_is_wrong_is_named(tmp_path: Path) -> None:
    file = tmp_path / "menu.txt"
    file.write_text("# mine\n0-5\n\n0-2 4-5  # without 3\n0-5\n")
    assert read_menu(file, 6) == (Chain.base(6), Chain.parse("0-2 4-5", 6))
    (tmp_path / "bad.txt").write_text("0-5\n0-9\n")
    with pytest.raises(UserError, match=r"bad\.txt line 2"):
        read_menu(tmp_path / "bad.txt", 6)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match="holds no chains"):
        read_menu(tmp_path / "empty.txt", 6)


def test_compose_adds_what_gains_most_under_each_question_s_own_metric(smollm: Backbone, arc: list[Question]) -> None:
    edits = [Skip(14, 1), Repeat(22, 1, 2), Skip(20, 1)]
    metric: dict[Question, Metric] = dict(zip(arc[:2], ("acc", "pmi"), strict=True))
    scorers = {name: OptionScorer(Executor(smollm), name) for name in metric.values()}
    skips = [edit for edit in edits if isinstance(edit, Skip)]
    composed = compose(lambda question: scorers[metric[question]], arc[:2], [edits, skips], 2, 30)

    @cache
    def scored(question: Question, chain: Chain) -> OptionScores:
        alone = OptionScorer(Executor(smollm, cache_bytes=0), metric[question])
        alone.open(as_sample(question))
        return alone.score([(question.key, chain)])[0]

    def worth(edits: Sequence[Edit]) -> float:
        base, chain = Chain.base(30), Chain.from_edits(edits, 30)
        found = [{one: scored(question, one) for one in (base, chain)} for question in arc[:2]]
        return float(soft_rewards(arc[:2], found)[chain].mean())

    wanted: dict[Chain, float] = {}
    for series in (edits, skips):
        first = max(series, key=lambda edit: worth([edit]))
        second = max((edit for edit in series if edit != first), key=lambda edit: worth([first, edit]))
        wanted |= {Chain.from_edits(some, 30): worth(some) - worth([]) for some in ([first], [first, second])}
    assert {chain: gains.mean() for chain, gains in composed.items()} == pytest.approx(wanted, abs=1e-4)


def test_a_menu_keeps_the_score_of_every_option(command: Command, tmp_path: Path, smollm: Backbone) -> None:
    menu = tmp_path / "menu.txt"
    menu.write_text("0-13 15-29\n0-22 22-29\n")
    arguments = ("--search.file", menu, "--tasks", "arc_easy:test", "winogrande:validation", "--limit", "4")
    code, said = command("cola_learn.label", "--config", "menu", *arguments, "--output", tmp_path / "pool")
    assert code == 0, said
    for task, split, metric in (("arc_easy", "test", "acc_norm"), ("winogrande", "validation", "acc")):
        scorer = OptionScorer(Executor(smollm, cache_bytes=0), metric)
        store = LabelStore.open(tmp_path / "pool" / f"{task}-{split}")
        assert store.manifest.plan.keep_scores
        questions = {question.key: question for question in load_task(task, split)}
        labels = store.read()
        assert len(labels) == 4
        for found in labels:
            question = questions[found.key]
            asked = [Chain.parse(text, 30) for text in ("0-29", "0-13 15-29", "0-22 22-29")]
            assert [trial.chain for trial in found.trials] == asked
            scorer.open(as_sample(question))
            for trial in found.trials:
                scores = scorer.score([(found.key, trial.chain)])[0]
                assert trial.scores == pytest.approx(scores.values, abs=1e-4)
                assert trial.reward == scores.reward(question.gold)
                assert trial.margin == scores.margin(question.gold)
            scorer.close(found.key)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    code, said = command("cola_learn.label", "--config", "menu", *arguments, "--output", tmp_path / "pool")
    assert code == 0
    assert "4 of 4 questions are done already" in said
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    menu.write_text("0-13 15-29\n")
    code, said = command("cola_learn.label", "--config", "menu", *arguments, "--output", tmp_path / "pool")
    assert code == 2
    assert "holds labels made with plan.settings.file" in said


def test_wrong_pools_are_named(command: Command, tmp_path: Path) -> None:
    menu = tmp_path / "menu.txt"
    menu.write_text("0-13 15-29\n")
    for arguments, message in (
        (("--search.file", menu, "--tasks", "arc_easy"), "task arc_easy names no split"),
        (("--search.file", menu, "--tasks", "q.jsonl:/../../esc"), "task q.jsonl:/../../esc names no split"),
        (("--search.file", tmp_path / "none.txt", "--tasks", "arc_easy:test"), "none.txt cannot be read"),
    ):
        code, said = command("cola_learn.label", "--config", "menu", *arguments, "--output", tmp_path / "pool")
        assert code == 2
        assert message in said
        assert "Traceback" not in said


def test_a_menu_is_not_made_of_stores_with_other_prompts(command: Command, tmp_path: Path) -> None:
    stores = [tmp_path / "one", tmp_path / "two"]
    for store in stores:
        shutil.copytree("data/menu/held/boolq-validation", store)
    manifest = LabelStore.open(stores[1]).manifest
    replace(manifest, scoring=replace(manifest.scoring, template="letter")).write(stores[1])
    code, said = command("cola_learn.label", "menu", "--labels", *stores, "--output", tmp_path / "menu.txt")
    assert code == 2
    assert said.strip().endswith(f"--labels: {stores[0]} and {stores[1]} differ in scoring.template")


def test_gains_do_not_depend_on_the_units_of_a_metric(tmp_path: Path) -> None:
    """A store whose margins are all a hundred times as large weighs as much as the other."""
    store = LabelStore.open(Path("data/menu/held/openbookqa-validation"))
    wide = LabelStore.create(tmp_path / "wide", store.manifest)
    with wide.writing():
        for label in store:
            trials = tuple(replace(trial, margin=100 * trial.margin) for trial in label.trials)
            wide.append([replace(label, trials=trials)])
    both, one = pooled_gains([store.read(), wide.read()]), pooled_gains([store.read()])
    assert both.keys() == one.keys() == {Repeat(17, 1, 2), Skip(18, 2)}
    for edit, (gain, count) in one.items():
        assert both[edit] == (pytest.approx(gain), 2 * count)


def test_how_files_are_read_is_said_of_files_alone(command: Command, tmp_path: Path) -> None:
    """Beside a benchmark: its own questions can then be read again as it says."""
    rows = [{"q": f"Which is {n}?", "opts": ["x", "y"], "key": "B"} for n in range(2)]
    (tmp_path / "quiz.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, said = command(
        *("cola_learn.label", "--tasks", tmp_path / "quiz.jsonl", "arc_easy:test", "--limit", "2"),
        *("--columns", "question=q,choices=opts,answer=key", "--search.simulations", "3", "--output", tmp_path / "out"),
    )
    assert code == 0, said
    layouts = {
        store: LabelStore.open(tmp_path / "out" / store).manifest.source.layout.columns
        for store in ("quiz-file", "arc_easy-test")
    }
    assert layouts == {"quiz-file": "question=q,choices=opts,answer=key", "arc_easy-test": ""}
