"""DART-Math by fail rate: MATH's and GSM8K's training questions in five equal parts, from easy to hard.

This is how PoLar (arXiv 2606.06574) and Re-PoLar (2609.31360) read 'DART-Math level k'; Dr.LLM means MATH's own levels
(``dart_math_1`` to ``_5``). PoLar did not publish which questions are in which part: this is the quantile of the fail
rate that DART-Math (arXiv 2407.13690) publishes for each question.

    python -m cola_learn.label --tasks examples.fail_rate.dart_math_1:train --output runs/dart
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cola_learn.errors import UserError
from cola_learn.tasks.answers import boxed
from cola_learn.tasks.question_files import hub_rows, hub_table
from cola_learn.tasks.questions import Question

_SHARES = {"train": (0.0, 0.625), "validation": (0.625, 0.75), "test": (0.75, 1.0)}  # PoLar's 1,250, 250 and 500


@dataclass(frozen=True)
class Pool:
    """Two datasets on the hub.

    Attributes:
        responses: many rows a question, with ``query_id``, ``query`` and ``gt_ans``.
        rates: one row a question, with ``query_id`` and ``pass_rate``.
    """

    responses: str
    rates: str


POOLS = (
    Pool("hkust-nlp/dart-math-pool-math", "hkust-nlp/dart-math-pool-math-query-info"),
    Pool("hkust-nlp/dart-math-pool-gsm8k", "hkust-nlp/dart-math-pool-gsm8k-query-info"),
)


def read_by_fail_rate(part: int, split: str, pools: Sequence[Pool] = POOLS) -> list[Question]:
    """The questions of one fifth; every question is in one split only. Downloads 2 GB the first time.

    Args:
        part: which fifth, 1 the easiest.
        split: train, validation or test: 62.5%, 12.5% and 25% in an order that depends on the questions' ids alone.
        pools: where to read.

    Raises:
        UserError: for an unknown split, or if the datasets cannot be loaded.
    """
    task = f"examples.fail_rate.dart_math_{part}"
    if split not in _SHARES:
        raise UserError(f"split {split} of {task} is not known; choose {', '.join(_SHARES)}")
    found: list[tuple[float, str, str, str]] = []
    commits = []
    for pool in pools:
        rates, commit = hub_rows(pool.rates, None, "train")
        fails = {str(row["query_id"]): 1 - float(row["pass_rate"]) for row in rates}
        table, other = hub_table(pool.responses, None, "train", ("query_id", "query", "gt_ans"))
        commits += [other, commit]
        first: dict[str, int] = {}
        for place, own in enumerate(table["query_id"]):
            first.setdefault(str(own), place)
        for own, row in zip(first, table.select(list(first.values())), strict=True):
            if own in fails:
                found.append((fails[own], own, row["query"], str(row["gt_ans"])))
    found.sort()
    fifth = found[round((part - 1) * len(found) / 5) : round(part * len(found) / 5)]
    fifth.sort(key=lambda one: hashlib.sha256(one[1].encode()).digest())
    low, high = (round(share * len(fifth)) for share in _SHARES[split])
    revision = "+".join(commits)
    return [
        Question(task, split, own, text, (boxed(answer) or answer,), 0, "", "", open=True, revision=revision)
        for _, own, text, answer in fifth[low:high]
    ]


dart_math_1, dart_math_2, dart_math_3, dart_math_4, dart_math_5 = (
    partial(read_by_fail_rate, part) for part in range(1, 6)
)
