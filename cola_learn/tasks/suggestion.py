"""The options by which a file that was refused can be read, worked out and tried."""

import re
from collections.abc import Sequence
from typing import Any

from cola_learn.errors import UserError
from cola_learn.tasks.answer_columns import BadRow, TwoReadings, caught, golds_of, missing, options_of, unwritten
from cola_learn.tasks.columns import (
    ANSWER,
    CHOICES,
    QUESTION,
    Cells,
    Layout,
    families,
    is_spare,
    lists,
    plain_name,
    read_fields,
    usual,
)

_WRONG = re.compile(r"distractor|incorrect|wrong|negative")
_RIGHT = re.compile(r"(correct|right|best)_?(answer|option|choice)?")
_TELLS = re.compile(r"solution|rationale|expla|reasoning|working|cot|exp|proof|equation|response|output|fact")


def suggestion(cells: Cells, layout: Layout) -> Layout | None:
    """A layout by which a file that was refused can be read, tried; None where there is none to be found."""
    named, ignored = layout.named, [name for name in layout.ignored if name != "*"]
    left = {name: cell for name, cell in cells.items() if name not in ignored and not all(map(missing, cell))}
    questions = named.get("question") or usual(left, QUESTION)[:1]
    for choices in _possible_choices(left, layout):
        rest = {name: cell for name, cell in left.items() if name not in (*choices, *questions)}
        named_so = usual(rest, ANSWER)
        right = [name for name in choices[-1:] if len(choices) > 1 and any(map(_is_wrong, choices))]
        answers = named.get("answer") or right or [*named_so, *rest]
        if choices and any(_is_broken(cells, choices, name) for name in answers if name in named_so):
            return None  # no other column is to stand in for an answer that some rows lack
        for answer in dict.fromkeys(answers):
            texts = [name for name in rest if name != answer and not _is_wrong(name) and _is_text(name, rest[name])]
            asked = named.get("question") or [*texts, *questions]
            used = (*asked, *choices, answer)
            spare = [name for name in left if name not in used and (name in ignored or not is_spare(name, left[name]))]
            if not asked or any(re.search("[,+=]", name) for name in (*used, *spare)):
                continue
            wanted = {"question": asked, "choices": choices, "answer": [answer], "id": named.get("id", [])}
            columns = ",".join(f"{field}={'+'.join(names)}" for field, names in wanted.items() if names)
            if (
                found := _tried(cells, Layout(columns, layout.answers, not choices, ",".join([*ignored, *spare])))
            ) is not None:
                return found
    return None


def _possible_choices(cells: Cells, layout: Layout) -> list[Sequence[str]]:
    """Which columns may be the options, the likeliest first; none where questions may be open."""
    if layout.open or "choices" in layout.named:
        return [layout.named.get("choices", ())]
    numbered = re.compile(r"(.*?)_?([a-z]|[0-9]+)")
    wrong = [name for name in cells if _is_wrong(name)]
    right = [name for name in cells if _RIGHT.fullmatch(plain_name(name))] or usual(cells, ANSWER)
    found: list[Sequence[str]] = [[*wrong, right[0]]] if wrong and right else []
    found += [*((name,) for name in lists(cells, usual(cells, CHOICES))), *families(cells)]
    found += [own for own in families(cells, numbered) if own not in found]
    found += [(name,) for name in lists(cells, cells) if (name,) not in found]
    return found if found else [()]


def _is_wrong(name: str) -> bool:
    return bool(_WRONG.search(plain_name(name)))


def _is_text(name: str, cells: Sequence[Any]) -> bool:
    """Whether a column may be part of the question: words, or turns of a dialogue, and not the answer's working."""
    given = [unwritten(cell) for cell in cells if not missing(cell)]
    texts = [" ".join(map(str, cell)) if isinstance(cell, list) else cell for cell in given]
    words = sum(isinstance(text, str) and bool(re.search(r"\s", text.strip())) for text in texts)
    return 2 * words >= max(1, len(given)) and not _TELLS.search(plain_name(name)) and plain_name(name) not in CHOICES


def _tried(cells: Cells, layout: Layout) -> Layout | None:
    """The layout if the file can be read by it, with the first way to read answers where there are two."""
    try:
        read_fields(cells, layout)
    except TwoReadings as error:
        answers: Any = error.ways[0]
        return _tried(cells, Layout(layout.columns, answers, layout.open, layout.ignore))
    except UserError:
        return None
    return layout


def _is_broken(cells: Cells, choices: Sequence[str], answer: str) -> bool:
    """Whether some rows of a column name one of the options, and some do not."""
    rows = range(len(cells[answer]))
    options = [caught(options_of, [cells[name][row] for name in choices], choices) for row in rows]
    pairs = [(cell, one) for cell, one in zip(cells[answer], options, strict=True) if not isinstance(one, BadRow)]
    try:
        golds = golds_of([cell for cell, _ in pairs], [one for _, one in pairs], "auto", answer) if pairs else []
    except TwoReadings:
        return False
    return len({isinstance(gold, BadRow) for gold in golds}) == 2
