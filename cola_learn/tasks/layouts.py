"""Rows as questions: which column holds what, and which option an answer means.

Nothing is guessed. What a row's columns and answers may mean is found for a whole file at once; where two readings are
possible and differ, the file is refused with what decides between them.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cola_learn.errors import UserError
from cola_learn.tasks.answers import boxed, spellings
from cola_learn.tasks.files import LONGEST, Row
from cola_learn.tasks.questions import Question

AnswersAs = Literal["auto", "text", "label", "letter", "from0", "from1"]
_FIELDS = ("question", "choices", "answer", "id", "context")
_QUESTION = ("question", "question_stem", "query", "problem", "prompt", "input", "stem", "goal")
_CHOICES = ("choices", "options", "endings", "answers", "candidates", "alternatives")
_ANSWER = (
    *("answer", "answerkey", "answer_key", "label", "labels", "gold", "gold_index", "correct", "correct_answer"),
    *("correct_option", "correct_choice", "correct_index", "answer_idx", "answer_index", "answer_id", "answer_letter"),
    *("target", "targets", "cop", "final_answer", "gt_ans"),
)
_CONTEXT = ("context", "passage", "article", "paragraph", "support", "story")
_FAMILY = re.compile(r"(?:(option|choice|answer|ending|opt|op|sol|ans)[_ ]?)?([a-j]|\d+)")
_WRONG = re.compile(r"distractor|incorrect|wrong|negative")
_LONGEST_ANSWER = 400  # characters: what is longer is a solution, not a short answer
_MEANINGS = {
    "text": "as an option's text",
    "label": "as a label of the options",
    "letter": "as a letter from A",
    "from0": "as a number from 0",
    "from1": "as a number from 1",
}


@dataclass(frozen=True)
class Layout:
    """How a file is to be read where its column names and answers do not say so themselves.

    Attributes:
        columns: which column holds what, as ``question=q,choices=opts,answer=key``. Several columns of options are
            joined: ``choices=w+x+y+z``. Also ``id``, and ``context`` for a passage that comes before the question
            (``context=`` leaves it out).
        answers: what an answer is: an option's ``text``, a ``label`` of the options' own, a ``letter`` from A, or a
            number ``from0`` or ``from1``; ``auto`` finds out, or refuses.
        open: the questions are open: their options, if any, are not shown and not scored.

    Raises:
        UserError: for columns that name no field.
    """

    columns: str = ""
    answers: AnswersAs = "auto"
    open: bool = False

    def __post_init__(self) -> None:
        for part in filter(None, self.columns.split(",")):
            if part.partition("=")[0].strip() not in _FIELDS or "=" not in part:
                raise UserError(f"--columns {part!r} is not read; write {', '.join(_FIELDS)} as question=q,answer=a")

    @property
    def named(self) -> dict[str, str]:
        """Column by field."""
        pairs = (part.partition("=") for part in filter(None, self.columns.split(",")))
        return {field.strip(): column.strip() for field, _, column in pairs}

    def settings(self) -> dict[str, Any]:
        """What is not left to the file itself."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Layout(), name)}


@dataclass(frozen=True)
class _Options:
    """The options of a row, with what names them there: labels and column names."""

    texts: tuple[str, ...]
    labels: Mapping[str, int]
    numbered: bool = False  # named by numbers from 1, which are not sure to be what answers count by


class _BadRow(Exception):
    """Why a row cannot be read."""


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
    columns = _Columns(rows, named, layout)
    faults: list[tuple[int, str]] = []

    def each(read: Callable[[Row], Any]) -> list[Any]:
        found = []
        for number, row in enumerate(rows, start=1):
            try:
                found.append(read(row))
            except _BadRow as fault:
                faults.append((number, str(fault)))
                found.append(None)
        return found

    texts = each(columns.text)
    options: list[Any] = [None] * len(rows) if layout.open else each(columns.options)
    _refuse(named, faults)
    if layout.open:
        answers = _agreed(columns, named, faults, lambda column: each(lambda row: _short_answer(row.get(column))))
        golds = [0] * len(rows)
        choices = [(answer,) for answer in answers]
    else:
        golds = _golds(rows, options, columns, named, layout.answers)
        choices = [found.texts for found in options]
    ids = columns.ids()
    form: dict[str, Any] = {"prefix": "", "suffix": ""} if layout.open else {}
    return [
        Question(task, split, own, text, tuple(shown), gold, open=layout.open, revision=revision, **form)
        for own, text, shown, gold in zip(ids, texts, choices, golds, strict=True)
    ]


def _refuse(named: str, faults: Sequence[tuple[int, str]]) -> None:
    if faults:
        number, reason = min(faults)
        others = len({row for row, _ in faults}) - 1
        more = f" ({others} more row{'s' * (others != 1)} cannot be read either)" if others else ""
        raise UserError(f"{named} row {number}: {reason}{more}")


class _Columns:
    """Which columns of a file hold what."""

    def __init__(self, rows: Sequence[Row], named: str, layout: Layout) -> None:
        self._rows, self._named, self._layout = rows, named, layout
        self._all = list(dict.fromkeys(str(name) for row in rows for name in row))
        for field, column in layout.named.items():
            for one in column.split("+") if field == "choices" else [column]:
                if one and one not in self._all:
                    raise UserError(f"--columns {field}={column}: {named} has {', '.join(self._all)}")
        self._question = self._only("question", _QUESTION)
        self.answers = self._named_or("answer", _ANSWER)
        self._choices = [] if layout.open else self._option_columns()
        self._context = self._passage()
        taken = {column for columns in self._choices for column in columns}
        self.answers = [name for name in self.answers if name not in taken]
        if not self.answers:
            raise UserError(f"{named} has {self._listed}; which column is the answer? give --columns answer=NAME")
        if not layout.open and not self._choices:
            self._must_be_open()

    @property
    def _listed(self) -> str:
        return f"columns {', '.join(self._all)}"

    def text(self, row: Row) -> str:
        found: Any = None
        for name in self._question:
            value = row.get(name)
            if found is not None and value not in (None, "") and value != found:
                others = " or ".join(self._question)
                raise _BadRow(f"{others} may be the question; say which with --columns question=NAME")
            found = value if found is None else found
        if not isinstance(found, str) or not found.strip():
            raise _BadRow(f"{self._question[0]} is {_shown(found)}; give a text")
        if len(found) > LONGEST:
            raise _BadRow(f"{self._question[0]} has {len(found):,} characters; at most {LONGEST:,} are read")
        passage = row.get(self._context) if self._context else None
        return f"{str(passage).strip()}\n{found}" if passage not in (None, "") else found

    def options(self, row: Row) -> _Options:
        readings = []
        for columns in self._choices:
            values = row.get(columns[0]) if len(columns) == 1 else [row.get(name) for name in columns]
            if len(columns) == 1 and (values is None or values == ""):
                continue
            readings.append((columns, _options(values, columns)))
        if not readings:
            raise _BadRow(f"{self._choices[0][0]} is empty; give at least two options")
        for columns, found in readings[1:]:
            if found.texts != readings[0][1].texts:
                first, second = ("+".join(names) for names in (readings[0][0], columns))
                raise _BadRow(f"{first} or {second} may be the options; say which with --columns choices=NAME")
        return readings[0][1]

    def ids(self) -> list[str]:
        """The rows' own names, or their numbers.

        Raises:
            UserError: if a name is there twice.
        """
        lower = {name.lower(): name for name in reversed(self._all)}
        column = self._layout.named.get("id") or lower.get("id")
        found = []
        for number, row in enumerate(self._rows, start=1):
            own = row.get(column) if column else None
            found.append(str(number) if own in (None, "") else str(own))
        own, count = Counter(found).most_common(1)[0]
        if count > 1:
            second = [number for number, other in enumerate(found, start=1) if other == own][1]
            raise UserError(
                f"{self._named} row {second}: id {own!r} is there twice; ids must differ, or name another column with "
                "--columns id=NAME"
            )
        return found

    def _named_or(self, field: str, usual: Sequence[str]) -> list[str]:
        if field in self._layout.named:
            return [self._layout.named[field]]
        lower: dict[str, str] = {}
        for name in self._all:
            lower.setdefault(name.lower().replace(" ", "_"), name)
        return [lower[name] for name in usual if name in lower]

    def _only(self, field: str, usual: Sequence[str]) -> list[str]:
        found = self._named_or(field, usual)
        if not found:
            raise UserError(f"{self._named} has {self._listed}; which is the {field}? give --columns {field}=NAME")
        return found

    def _option_columns(self) -> list[tuple[str, ...]]:
        """Every column, or family of columns, that may hold the options."""
        if "choices" in self._layout.named:
            return [tuple(self._layout.named["choices"].split("+"))]
        found: list[tuple[str, ...]] = []
        for name in self._named_or("choices", _CHOICES):
            if (
                any(isinstance(_unwritten(row.get(name)), list | dict) for row in self._rows)
                or name.lower() != "answers"
            ):
                found.append((name,))
        families: dict[tuple[str, bool], dict[int, str]] = {}
        for name in self._all:
            match = _FAMILY.fullmatch(name.lower().strip())
            if match and (match[1] or not match[2].isdigit()):
                digit = match[2].isdigit()
                place = int(match[2]) if digit else ord(match[2]) - ord("a")
                families.setdefault((match[1] or "", digit), {})[place] = name
        for (_, digit), members in families.items():
            first = min(members)
            if sorted(members) == list(range(first, first + len(members))) and first <= int(digit):
                if len(members) == 1:
                    [name] = members.values()
                    raise UserError(f"{self._named}: {name} looks like the only option; a question needs at least two")
                found.append(tuple(members[place] for place in sorted(members)))
        return found

    def _passage(self) -> str | None:
        if "context" in self._layout.named:
            return self._layout.named["context"] or None
        used = {*self._question, *(name for columns in self._choices for name in columns)}
        for name in self._all:
            if name.lower() in _CONTEXT and name not in used and any(row.get(name) for row in self._rows):
                raise UserError(
                    f"{self._named}: is column {name} to be read before the question? give --columns context={name}, "
                    "or context= to leave it out"
                )
        return None

    def _must_be_open(self) -> None:
        """No options were found: refuse, for what a question is to be is not to be guessed."""
        lists = [
            name
            for name in self._all
            if _WRONG.search(name.lower())
            or any(isinstance(_unwritten(row.get(name)), list | dict) for row in self._rows[:100])
        ]
        if lists:
            raise UserError(
                f"{self._named}: column {lists[0]} looks like options; give --columns choices={lists[0]} (all options "
                "in a list), or --open for questions with a short answer and no options"
            )
        raise UserError(
            f"{self._named} has {self._listed} and no options; give --columns choices=NAME, or --open for questions "
            "with a short answer"
        )


def _options(values: Any, columns: Sequence[str]) -> _Options:
    """The options of one cell, or of the cells of several columns."""
    where = "+".join(columns)
    if len(columns) > 1:
        values = list(values)
        while values and values[-1] in (None, ""):  # questions with fewer options
            values.pop()
        names = [str(name) for name in columns]
        ends = [re.sub(r"^.*?([a-jA-J]|\d+)$", r"\1", name) for name in names]
        numbered = ends[0] == "1"
        labels = {name: place for place, name in enumerate(names)}
        if not numbered:
            labels |= {end: place for place, end in enumerate(ends)}
        return _checked(values, labels, where, numbered)
    values = _unwritten(values)
    if isinstance(values, Mapping):
        inner = {str(name).lower(): value for name, value in values.items() if value is not None}
        marks = inner.get("label", inner.get("labels", inner.get("key")))
        if isinstance(inner.get("text"), list):
            texts = inner["text"]
            if isinstance(marks, list) and len(marks) == len(texts):
                return _checked(texts, {str(mark).strip(): place for place, mark in enumerate(marks)}, where)
            return _checked(texts, {}, where)
        values = {str(name).strip(): value for name, value in values.items() if value is not None}
        return _checked(list(values.values()), {name: place for place, name in enumerate(values)}, where)
    if not isinstance(values, list | tuple):
        raise _BadRow(f"{where} is {_shown(values)}; give a list of texts (in CSV a JSON list)")
    if values and all(isinstance(value, Mapping) for value in values):
        keys = [next((key for key in ("text", "value", "content", "option") if key in value), None) for value in values]
        fields = [next((key for key in ("label", "key", "id") if key in value), None) for value in values]
        if None in keys:
            raise _BadRow(f"{where} holds {_shown(values[0])}; give the fields text and label")
        labels = {
            str(value[mark]).strip(): place
            for place, (value, mark) in enumerate(zip(values, fields, strict=True))
            if mark
        }
        return _checked([value[key] for value, key in zip(values, keys, strict=True)], labels, where)
    return _checked(list(values), {}, where)


def _checked(values: Sequence[Any], labels: Mapping[str, int], where: str, numbered: bool = False) -> _Options:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
            raise _BadRow(f"{where} holds {_shown(value)}; every option is a text")
    texts = tuple(str(value) for value in values)
    if len(texts) < 2:
        raise _BadRow(f"{where} holds {len(texts)} option{'s' * (len(texts) != 1)}; a question needs at least two")
    again = [text for text, count in Counter(text.strip() for text in texts).items() if count > 1]
    if again:
        raise _BadRow(
            f"{where} holds {_shown(again[0])} twice; options must differ, for one of them cannot be told right"
        )
    return _Options(texts, labels, numbered)


def _unwritten(value: Any) -> Any:
    """A list or an object that a cell holds as text, in JSON or in Python's way; anything else as it is."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{") and len(value) <= LONGEST:
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                continue
            if isinstance(found, list | tuple | dict):
                return found
    return value


def _golds(
    rows: Sequence[Row], options: Sequence[_Options], columns: _Columns, named: str, answers: AnswersAs
) -> list[int]:
    """The right option of every row, by whichever columns hold answers; they must agree."""
    faults: list[tuple[int, str]] = []

    def read(column: str) -> list[Any]:
        cells = [row.get(column) for row in rows]
        readings = [_readings(cell, found) for cell, found in zip(cells, options, strict=True)]
        native = all(not isinstance(cell, str) for cell in cells) and not any(found.numbered for found in options)
        return _decide(readings, cells, options, named, column, answers, native, faults)

    found: list[int] = _agreed(columns, named, faults, read)
    return found


def _agreed(
    columns: _Columns, named: str, faults: list[tuple[int, str]], read: Callable[[str], list[Any]]
) -> list[Any]:
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
        _refuse(named, first)
    (name, chosen), *others = readable.items()
    for other, found in others:
        for number, (one, two) in enumerate(zip(chosen, found, strict=True), start=1):
            if one != two:
                raise UserError(
                    f"{named} row {number}: columns {name} and {other} name different answers; say which holds with "
                    f"--columns answer={name}"
                )
    return chosen


def _decide(
    readings: Sequence[Mapping[str, int]],
    cells: Sequence[Any],
    options: Sequence[_Options],
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
            faults.append((number + 1, f"{column} is {_shown(cell)}: no answer is given (splits for tests hide them)"))
        else:
            way = f" {_MEANINGS[answers]}" if answers != "auto" else ""
            faults.append(
                (
                    number + 1,
                    f"{column} {_shown(cell)} is none of the {len(found.texts)} options{way}; give an option's text, a "
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
    whole = [way for way in ("marks", *_MEANINGS) if all(way in reading for reading in readings)]
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
                f"{named} row {number + 1}: {column} {_shown(cells[number])} may be read {_MEANINGS[one]} "
                f"({_shown(texts[first])}) or {_MEANINGS[two]} ({_shown(texts[second])}), and no row of the file "
                f"decides; say which with --answers {one} or --answers {two}"
            )
        found.append(next(iter(places), None))
    return found


def _readings(cell: Any, options: _Options) -> dict[str, int]:
    """Every option that an answer may mean, by the way of reading it."""
    count = len(options.texts)
    if isinstance(cell, str) and isinstance(_unwritten(cell), list):
        cell = _unwritten(cell)
    if isinstance(cell, list | tuple):
        if len(cell) == count and all(value in (0, 1) for value in cell) and sum(map(int, cell)) == 1:
            return {"marks": [int(value) for value in cell].index(1)}
        return _readings(cell[0], options) if len(cell) == 1 and not isinstance(cell[0], list | tuple) else {}
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return {}
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = str(cell).strip()
    found: dict[str, int] = {}
    stripped = [option.strip() for option in options.texts]
    if text in stripped:
        found["text"] = stripped.index(text)
    if text in options.labels:
        found["label"] = options.labels[text]
    letter = re.fullmatch(r"\(?([A-Za-z])[).:]?\)?", text)
    if letter and ord(letter[1].upper()) - ord("A") < count:
        place = ord(letter[1].upper()) - ord("A")
        found["letter"] = place
        if "label" not in found and letter[1].upper() in options.labels:
            found["label"] = options.labels[letter[1].upper()]
    if re.fullmatch(r"\d{1,4}", text):
        number = int(text)
        if number < count:
            found["from0"] = number
        if 1 <= number <= count:
            found["from1"] = number - 1
    return found


def _short_answer(cell: Any) -> str:
    r"""The short answer in a cell: what follows ``####``, else what a ``\boxed{}`` holds, else all of it."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise _BadRow(f"answer is {_shown(cell)}; give a short text or a number")
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = str(cell).strip()
    if len(text) > LONGEST:
        raise _BadRow(f"answer has {len(text):,} characters; give a short text or a number")
    if "####" in text:
        text = text.rsplit("####", 1)[1].strip()
    elif "\\boxed" in text or "\\fbox" in text:
        text = boxed(text) or text
    if not spellings(text) or len(text) > _LONGEST_ANSWER or "\n" in text:
        raise _BadRow(f"answer is {_shown(cell)}; give a short text or a number")
    return text


def _shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
