"""Arithmetic that the library reasoning-gym makes, in five levels: a small model can partly do the lower ones."""

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

from cola_learn.errors import UserError
from cola_learn.tasks.questions import Question

_DRAWN = 4000  # of each level; the lowest have fewer that differ
_SIZES = {1: (2, 1), 2: (2, 2), 3: (3, 2), 4: (4, 2), 5: (4, 3)}  # level: terms, most digits of each
_SHARES = {"test": (0, 60), "validation": (60, 80), "train": (80, 100)}  # as the embedded tasks: test is the pool


def _settings(level: int, **others: Any) -> Mapping[str, Any]:
    terms, digits = _SIZES[level]
    return {"min_terms": terms, "max_terms": terms, "min_digits": 1, "max_digits": digits, **others}


GENERATED: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{f"chain_sum_{level}": ("chain_sum", _settings(level)) for level in _SIZES},
    **{
        f"basic_arithmetic_{level}": (
            "basic_arithmetic",
            _settings(level, operators=["+", "-", "*"], allow_parentheses=level > 2, allow_negation=level > 3),
        )
        for level in _SIZES
    },
}
"""Task name: the dataset of reasoning-gym and its settings. No division: in version 0.1.25 its answers are wrong."""


def generate_questions(task: str, split: str) -> list[Question]:
    """The questions of a generated task; every question is in one split only, whichever is asked for.

    Raises:
        UserError: for an unknown split, or without the library.
    """
    if split not in _SHARES:
        raise UserError(f"--split {split} of {task} is not known; choose {', '.join(_SHARES)}")
    try:
        with warnings.catch_warnings():  # a library of its own has some for whoever imports it first
            warnings.simplefilter("ignore", SyntaxWarning)
            import reasoning_gym
    except ImportError:
        raise UserError(f"--task {task} needs reasoning-gym; pip install 'cola-learn[reasoning]'") from None
    name, settings = GENERATED[task]
    low, high = _SHARES[split]
    found: dict[str, Question] = {}
    for row in reasoning_gym.create_dataset(name, seed=0, size=_DRAWN, **settings):
        text = row["question"]
        place = int(hashlib.sha256(text.encode()).hexdigest(), 16)
        if low <= place % 100 < high:
            own = f"{place:064x}"[:16]
            found[own] = Question(task, split, own, text, (str(row["answer"]),), 0, "", "", open=True)
    return list(found.values())
