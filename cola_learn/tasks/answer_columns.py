"""Reading a row's options and gold answer, where they can be read in one way only."""

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cola_learn.tasks.answers import boxed, spellings
from cola_learn.tasks.files import LONGEST

AnswersAs = Literal["auto", "text", "label", "letter", "from0", "from1"]


_LONGEST_ANSWER = 400  # characters: what is longer is a solution, not a short answer


@dataclass(frozen=True)
class AnswerOptions:
    """The options of a row, with what names them there: labels and column names."""

    texts: tuple[str, ...]
    labels: Mapping[str, int]
    numbered: bool = False  # named by numbers from 1, which are not sure to be what answers count by


class BadRow(Exception):
    """Why a row cannot be read."""


def options_of(values: Any, columns: Sequence[str]) -> AnswerOptions:
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
    values = unwritten(values)
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
        raise BadRow(f"{where} is {shown(values)}; give a list of texts (in CSV a JSON list)")
    if values and all(isinstance(value, Mapping) for value in values):
        keys = [next((key for key in ("text", "value", "content", "option") if key in value), None) for value in values]
        fields = [next((key for key in ("label", "key", "id") if key in value), None) for value in values]
        if None in keys:
            raise BadRow(f"{where} holds {shown(values[0])}; give the fields text and label")
        labels = {
            str(value[mark]).strip(): place
            for place, (value, mark) in enumerate(zip(values, fields, strict=True))
            if mark
        }
        return _checked([value[key] for value, key in zip(values, keys, strict=True)], labels, where)
    return _checked(list(values), {}, where)


def _checked(values: Sequence[Any], labels: Mapping[str, int], where: str, numbered: bool = False) -> AnswerOptions:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
            raise BadRow(f"{where} holds {shown(value)}; every option is a text")
    texts = tuple(str(value) for value in values)
    if len(texts) < 2:
        raise BadRow(f"{where} holds {len(texts)} option{'s' * (len(texts) != 1)}; a question needs at least two")
    again = [text for text, count in Counter(text.strip() for text in texts).items() if count > 1]
    if again:
        raise BadRow(
            f"{where} holds {shown(again[0])} twice; options must differ, for one of them cannot be told right"
        )
    return AnswerOptions(texts, labels, numbered)


def unwritten(value: Any) -> Any:
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


def readings_of(cell: Any, options: AnswerOptions) -> dict[str, int]:
    """Every option that an answer may mean, by the way of reading it."""
    count = len(options.texts)
    if isinstance(cell, str) and isinstance(unwritten(cell), list):
        cell = unwritten(cell)
    if isinstance(cell, list | tuple):
        if len(cell) == count and all(value in (0, 1) for value in cell) and sum(map(int, cell)) == 1:
            return {"marks": [int(value) for value in cell].index(1)}
        return readings_of(cell[0], options) if len(cell) == 1 and not isinstance(cell[0], list | tuple) else {}
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


def short_answer(cell: Any) -> str:
    r"""The short answer in a cell: what follows ``####``, else what a ``\boxed{}`` holds, else all of it."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise BadRow(f"answer is {shown(cell)}; give a short text or a number")
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = str(cell).strip()
    if len(text) > LONGEST:
        raise BadRow(f"answer has {len(text):,} characters; give a short text or a number")
    if "####" in text:
        text = text.rsplit("####", 1)[1].strip()
    elif "\\boxed" in text or "\\fbox" in text:
        text = boxed(text) or text
    if not spellings(text) or len(text) > _LONGEST_ANSWER or "\n" in text:
        raise BadRow(f"answer is {shown(cell)}; give a short text or a number")
    return text


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
