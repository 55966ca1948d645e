"""Rows as questions: which column holds what, and which option an answer means.

Nothing is guessed. What a row's columns and answers may mean is found for a whole file at once; where two readings are
possible and differ, the file is refused with what decides between them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cola_learn.errors import UserError
from cola_learn.tasks.answer_columns import (
    AnswerOptions,
    AnswersAs,
    BadRow,
    readings_of,
    short_answer,
    shown,
)
from cola_learn.tasks.columns import MEANINGS, Columns, Layout, refuse
from cola_learn.tasks.files import Row
from cola_learn.tasks.questions import Question


def read_questions(
    rows: Sequence[Row], task: str, split: str, named: str, layout: Layout, revision: str = ""
) -> list[Question]:
    """Questions of rows.

    Args:
        rows: of a file.
        task, split: of the questions' names.
        named: what the user called the file by, for messages.
        layout: how it is to be read.
        revision: of the dataset on the hub that they are from.

    Raises:
        UserError: naming the first row that cannot be read and counting such rows, or two readings that differ.
    """
    if not rows:
        return []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise UserError(f"{named} row {number}: has {type(row).__name__}; give an object with question and answer")
    columns = Columns(rows, named, layout)
    faults: list[tuple[int, str]] = []

    def each(read: Callable[[Row], Any]) -> list[Any]:
        found = []
        for number, row in enumerate(rows, start=1):
            try:
                found.append(read(row))
            except BadRow as fault:
                faults.append((number, str(fault)))
                found.append(None)
        return found

    texts = each(columns.text)
    options: list[Any] = [None] * len(rows) if layout.open else each(columns.options)
    refuse(named, faults)
    if layout.open:
        answers = _agreed(columns, named, faults, lambda column: each(lambda row: short_answer(row.get(column))))
        golds = [0] * len(rows)
        choices = [(answer,) for answer in answers]
    else:
        golds = golds_of(rows, options, columns, named, layout.answers)
        choices = [found.texts for found in options]
    ids = columns.ids()
    form: dict[str, Any] = {"prefix": "", "suffix": ""} if layout.open else {}
    return [
        Question(task, split, own, text, tuple(shown), gold, open=layout.open, revision=revision, **form)
        for own, text, shown, gold in zip(ids, texts, choices, golds, strict=True)
    ]


def golds_of(
    rows: Sequence[Row], options: Sequence[AnswerOptions], columns: Columns, named: str, answers: AnswersAs
) -> list[int]:
    """The right option of every row, by whichever columns hold answers; they must agree."""
    faults: list[tuple[int, str]] = []

    def read(column: str) -> list[Any]:
        cells = [row.get(column) for row in rows]
        readings = [readings_of(cell, found) for cell, found in zip(cells, options, strict=True)]
        native = all(not isinstance(cell, str) for cell in cells) and not any(found.numbered for found in options)
        return decide(readings, cells, options, named, column, answers, native, faults)

    found: list[int] = _agreed(columns, named, faults, read)
    return found


def _agreed(columns: Columns, named: str, faults: list[tuple[int, str]], read: Callable[[str], list[Any]]) -> list[Any]:
    """What the columns that may hold answers say: those that can be read in every row, which must agree."""
    readable: dict[str, list[Any]] = {}
    first: list[tuple[int, str]] = []
    for column in columns.answers:
        faults.clear()
        found = read(column)
        if not faults:
            readable[column] = found
        first = first or list(faults)
    faults.clear()
    if not readable:
        refuse(named, first)
    (name, chosen), *others = readable.items()
    for other, found in others:
        for number, (one, two) in enumerate(zip(chosen, found, strict=True), start=1):
            if one != two:
                raise UserError(
                    f"{named} row {number}: columns {name} and {other} name different answers; say which holds with "
                    f"--columns answer={name}"
                )
    return chosen


def decide(
    readings: Sequence[Mapping[str, int]],
    cells: Sequence[Any],
    options: Sequence[AnswerOptions],
    named: str,
    column: str,
    answers: AnswersAs,
    native: bool,
    faults: list[tuple[int, str]],
) -> list[Any]:
    """The option that each answer means: the readings that hold for the whole file must agree, else row by row."""

    def fault(number: int) -> None:
        cell, found = cells[number], options[number]
        if cell is None or str(cell).strip() in ("", "-1"):
            faults.append((number + 1, f"{column} is {shown(cell)}: no answer is given (splits for tests hide them)"))
        else:
            way = f" {MEANINGS[answers]}" if answers != "auto" else ""
            faults.append(
                (
                    number + 1,
                    f"{column} {shown(cell)} is none of the {len(found.texts)} options{way}; give an option's text, a "
                    f"letter from A to {chr(ord('A') + len(found.texts) - 1)}, or an index",
                )
            )

    if answers != "auto":
        for number, reading in enumerate(readings):
            if answers not in reading:
                fault(number)
        return [reading.get(answers) for reading in readings]
    from_zero = any("from0" in reading and "from1" not in reading for reading in readings)
    from_one = any("from1" in reading and "from0" not in reading for reading in readings)
    never = "from1" if from_zero else "from0" if from_one else ""  # one row decides for all how they count
    readings = [{way: place for way, place in reading.items() if way != never} for reading in readings]
    whole = [way for way in ("marks", *MEANINGS) if all(way in reading for reading in readings)]
    if "label" in whole:  # that is what the options' own labels are for
        whole = [way for way in whole if way in ("label", "text")]
    if native and "from0" in whole and "from1" in whole:
        whole.remove("from1")
    ways = whole or None
    found: list[Any] = []
    for number, reading in enumerate(readings):
        here = dict(reading) if ways is None else {way: reading[way] for way in ways}
        if ways is None and "label" in here:
            here = {way: place for way, place in here.items() if way in ("label", "text")}
        if ways is None and not isinstance(cells[number], str) and "from0" in here:
            here.pop("from1", None)
        places = dict.fromkeys(here.values())
        if not places:
            fault(number)
        elif len(places) > 1:
            (one, first), *rest = here.items()
            two, second = next((way, place) for way, place in rest if place != first)
            texts = options[number].texts
            raise UserError(
                f"{named} row {number + 1}: {column} {shown(cells[number])} may be read {MEANINGS[one]} "
                f"({shown(texts[first])}) or {MEANINGS[two]} ({shown(texts[second])}), and no row of the file "
                f"decides; say which with --answers {one} or --answers {two}"
            )
        found.append(next(iter(places), None))
    return found
