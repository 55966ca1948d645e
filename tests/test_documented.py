"""The tables in docs/ say what the committed results say."""

import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet
import pytest
from scipy.stats import binomtest

from cola_learn import load_task

REPOSITORY = Path(__file__).parents[1]
LABELS = REPOSITORY / "data" / "labels"
NONE = 1000


@pytest.mark.parametrize(("journal", "table_rows"), [("questions.jsonl", 40), ("float32/questions.jsonl", 6)])
def test_search_methods_table(journal: str, table_rows: int) -> None:
    lines = (REPOSITORY / "data" / "search" / journal).read_text().splitlines()
    sections = (REPOSITORY / "docs" / "search.md").read_text().split("\n## At the default budget\n")
    text = sections["/" in journal]
    command = re.search(r"benchmarks\.studies\.search .*--questions (\d+)", text)
    assert command is not None
    pairs = int(command[1])
    questions = list({row["key"]: row for row in map(json.loads, lines[1:])}.values())
    if "/" in journal:
        labelled = default_search()
        for row in questions:
            row["methods"]["mcts disjoint"] = labelled[row["key"]]
    by_task = {task: [row for row in questions if row["task"] == task] for task in ("arc_easy", "arc_challenge")}
    assert {len(rows) for rows in by_task.values()} == {pairs}
    right = [row for row in questions if row["base"] == 1]
    wrong = [row for row in questions if row["base"] == 0]
    assert f"{len(right)} right and {len(wrong)} wrong answers" in text.replace("\n", " ")

    def depth(row: dict[str, Any], target: str) -> int:
        """Of the shallowest chain that reaches the target within the budget; ``NONE`` if none does."""
        found = row["methods"][method].get(target, [])
        return min((layers for simulation, layers in found if simulation <= budget), default=NONE)

    table = re.findall(r"^\| ([^|]*) \| (\d+) \| (.*) \|$", text, re.MULTILINE)
    assert len(table) == table_rows
    method = ""
    for name, simulations, columns in table:
        method, budget = name.strip() or method, int(simulations)
        shares = [re.split(r"[ %]", column.strip())[0] for column in columns.split("|")]
        shorter = [depth(row, "gold") < 30 for row in right]
        saved, by_luck = ([max(0, 30 - depth(row, target)) / 30 for row in right] for target in ("gold", "luck"))
        corrected, lucky = ([depth(row, target) < NONE for row in wrong] for target in ("gold", "luck"))
        expected = [f"{100 * fmean(values):.{digits}f}" for values, digits in ((shorter, 0), (saved, 1), (by_luck, 1))]
        expected += [f"{100 * (fmean(saved) - fmean(by_luck)):+.1f}"]
        expected += [f"{100 * fmean(values):.0f}" for values in (corrected, lucky)]
        expected += [f"{100 * (fmean(corrected) - fmean(lucky)):+.1f}"]
        assert shares == expected, (method, budget)


def default_search() -> dict[str, dict[str, list[tuple[int, int]]]]:
    """(simulation, layers) of what it found on each question, from the committed labels."""
    found: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for store in (LABELS / "arc_easy-test", LABELS / "arc_challenge-test"):
        for file in store.glob("*.parquet"):
            for row in pyarrow.parquet.read_table(file).to_pylist():
                own = found.setdefault(f"{row['task']}/test/{row['id']}", {"gold": [], "luck": []})
                if row["reward"] == 1:
                    own[row["target"]].append((row["simulation"], row["depth"]))
    return found


@pytest.mark.parametrize(("name", "journal"), [("DART-Math 1", "dart_math_1"), ("sums, level 1", "chain_sum_1")])
def test_agreement_of_rewards(name: str, journal: str) -> None:
    lines = (REPOSITORY / "data" / "rewards" / f"{journal}.jsonl").read_text().splitlines()
    text = (REPOSITORY / "docs" / "results.md").read_text()
    parts = [json.loads(line) for line in lines[1:]]
    keys = [key for part in parts for key in part["keys"]]
    assert len(keys) == len(set(keys))
    verified, written = ([reward == 1 for part in parts for reward in part[judge]] for judge in ("verify", "generate"))
    assert len(verified) == len(written) == 20 * len(keys)

    def share(count: int, total: int) -> str:
        return f"{count:,} of {total:,}, {_percent(count, total)}"

    same = sum(one == other for one, other in zip(verified, written, strict=True))
    both = sum(one and other for one, other in zip(verified, written, strict=True))
    columns = [
        f"{name}, float32",
        str(len(keys)),
        share(same, len(verified)),
        share(both, sum(written)),
        share(both, sum(verified)),
    ]
    assert f"| {' | '.join(columns)} |" in text


@pytest.mark.parametrize("store", sorted(path.name for path in LABELS.glob("dart_math_*")))
def test_what_search_finds_at_math(store: str) -> None:
    """Of the committed labels, read by another reader than the store's: accuracy before and after search, and by
    luck."""
    task, edits = store.split("-")
    files = sorted((LABELS / store).glob("*.parquet"))
    rows = [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
    assert all(row["task"] == task for row in rows)
    questions = list(dict.fromkeys(row["id"] for row in rows))
    count = len(questions)
    good = [row for row in rows if row["reward"] == 1]
    found = [any(row["id"] == one and row["target"] == "gold" for row in good) for one in questions]
    right = [any(row["id"] == one and row["chain"] == "0-29" for row in good) for one in questions]
    lucky = [any(row["id"] == one and row["target"] == "luck" for row in good) for one in questions]
    lucky = [base or luck for base, luck in zip(right, lucky, strict=True)]
    table = [line.strip("| ").split(" | ") for line in (REPOSITORY / "docs" / "results.md").read_text().splitlines()]
    [columns] = [line for line in table if line[0] == task and line[4] == edits]
    expected = str(count), _percent(sum(right), count), _percent(sum(found), count), f"{sum(lucky) / count:.1%}"
    assert (columns[1], columns[3], columns[5], columns[6]) == expected


def _percent(count: int, total: int) -> str:
    """A share with Wilson's interval."""
    low, high = binomtest(count, total).proportion_ci(method="wilson")
    return f"{count / total:.1%} ({low:.1%}, {high:.1%})"


def test_damped_loops_table() -> None:
    """Right is whose gold option has the highest score; gains are differences to base."""
    lines = (REPOSITORY / "data" / "damped" / "loops.jsonl").read_text().splitlines()
    parts = [part for part in map(json.loads, lines[1:]) if part["part"] == "compare"]
    text = (REPOSITORY / "docs" / "search.md").read_text().split("## Damped loops")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .* \| ([\d.]+)% \| ?([^|]*)\|", text, re.MULTILINE)
    wanted = {part["question"] for part in parts}
    tasks = {(key.split("/")[0], key.split("/")[1]) for key in wanted}
    gold = {question.key: question.gold for task, split in tasks for question in load_task(task, split)}
    assert f"{len(wanted)}\nothers" in text
    assert len(wanted) == len(parts)
    right = [
        [max(range(len(one)), key=one.__getitem__) == gold[part["question"]] for one in part["scores"]]
        for part in parts
    ]
    shares = [100 * fmean(chain) for chain in zip(*right, strict=True)]
    assert [share for share, _ in rows] == [f"{share:.1f}" for share in shares]
    assert [change.split(" ")[0] for _, change in rows] == ["", *(f"{share - shares[0]:+.1f}" for share in shares[1:])]
