"""The options of a row, and the option that its answer means."""

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cola_learn.errors import UserError
from cola_learn.tasks.answers import boxed, spellings

AnswersAs = Literal["auto", "text", "label", "letter", "from0", "from1"]
LONGEST = 1_000_000  # characters of a text
_LONGEST_ANSWER = 400  # characters: what is longer is a solution, not a short answer
_MARKERS = (r"####\s*(.+)$", r"\b[Tt]he (?:final )?answer is:?\s*(.+?)\.?\s*\Z")  # GSM8K's, MetaMath's
MEANINGS = {
    "marks": "a list with 1 at the right option",
    "label": "a label of the options",
    "text": "the text of an option",
    "letter": "a letter from A",
    "from0": "an index from 0",
    "from1": "an index from 1",
}


@dataclass(frozen=True)
class AnswerOptions:
    """The options of a row, and what names them in the file: labels and column names."""

    texts: tuple[str, ...]
    labels: Mapping[str, int]


class BadRow(Exception):
    """Why a row cannot be read."""


class TwoReadings(UserError):
    """Answers that can be read in two ways; ``ways`` are the values of ``--answers`` that decide."""

    def __init__(self, message: str, ways: Sequence[str]) -> None:
        super().__init__(message)
        self.ways = ways


def caught(read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except BadRow as fault:
        return fault


def refuse_bad(found: Sequence[Any]) -> None:
    """Raise if any row could not be read.

    Raises:
        UserError: with the first such row and the number of others.
    """
    bad = [(row, fault) for row, fault in enumerate(found, start=1) if isinstance(fault, BadRow)]
    if bad:
        more = f" ({len(bad) - 1} more row{'s' * (len(bad) > 2)} cannot be read either)" if len(bad) > 1 else ""
        raise UserError(f"row {bad[0][0]}: {bad[0][1]}{more}")


def missing(value: Any) -> bool:
    """Whether a cell holds nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def unwritten(value: Any) -> Any:
    """A list or an object that a cell holds as text, in JSON or as Python prints it; anything else as it is."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{") and len(value) <= LONGEST:
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                continue
            if isinstance(found, list | tuple | dict):
                return found
    return value


def options_of(cells: Sequence[Any], names: Sequence[str]) -> AnswerOptions:
    """The options in one cell (a list, an object of options by label, or ``{"text": [...], "label": [...]}``), or in
    the cells of several columns (texts, or lists of them).

    Raises:
        BadRow: if they are not at least two texts that differ.
    """
    where = "+".join(names)
    if len(names) > 1:
        cells = list(cells)
        while cells and missing(cells[-1]):  # questions with fewer options
            cells.pop()
        lists = [list(found) if isinstance(found := unwritten(cell), list) else [cell] for cell in cells]
        if any(len(own) > 1 for own in lists):
            return _checked([text for own in lists for text in own], (), where)
        ends = [re.sub(r"^.*?([A-Za-z]|[0-9]+)$", r"\1", name) for name in names[: len(cells)]]
        labels = [(name, place) for place, name in enumerate(names[: len(cells)])]
        if ends[:1] != ["1"] and len(set(ends)) == len(
            ends
        ):  # counted from 1, they may be what answers count by or not
            labels += [(end, place) for place, end in enumerate(ends) if end not in names]
        return _checked(cells, labels, where)
    values = unwritten(cells[0])
    if isinstance(values, Mapping):
        fields = {str(name).lower(): value for name, value in values.items() if value is not None}
        if isinstance(fields.get("text"), list):
            marks: list[Any] = next((fields[name] for name in ("label", "labels", "key") if name in fields), [])
            _no_more(fields, ("text", "label", "labels", "key"), where)
            if marks and len(marks) != len(fields["text"]):
                raise BadRow(f"{where} has {len(fields['text'])} texts and {len(marks)} labels")
            return _checked(fields["text"], [(str(mark).strip(), place) for place, mark in enumerate(marks)], where)
        by_name = [(str(name).strip(), value) for name, value in values.items() if value is not None]
        labels = [(name, place) for place, (name, _) in enumerate(by_name)]
        return _checked([value for _, value in by_name], labels, where)
    if not isinstance(values, list | tuple):
        raise BadRow(f"{where} is {shown(values)}; give a list of texts (in CSV a JSON list)")
    if values and all(isinstance(value, Mapping) for value in values):
        texts, labels = [], []
        for place, value in enumerate(values):
            text = next((key for key in ("text", "value", "content", "option") if key in value), None)
            mark = next((key for key in ("label", "key", "id") if key in value), None)
            if text is None:
                raise BadRow(f"{where} holds {shown(value)}; give the fields text and label")
            _no_more(value, (text, mark), where)
            texts.append(value[text])
            labels += [(str(value[mark]).strip(), place)] if mark else []
        return _checked(texts, labels, where)
    return _checked(list(values), (), where)


def _no_more(fields: Mapping[str, Any], known: Sequence[str | None], where: str) -> None:
    if more := [name for name in fields if name not in known]:
        raise BadRow(f"{where} has a field {more[0]!r} that is not read; give text and label only")


def _checked(values: Sequence[Any], labels: Sequence[tuple[str, int]], where: str) -> AnswerOptions:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or missing(value):
            raise BadRow(f"{where} holds {shown(value)}; every option is a text")
        if isinstance(value, str) and re.search(r"[\t\n\r]", value.strip()):
            raise BadRow(f"{where} holds {shown(value)}, which has a tab or a line end in it; are quotes out of place?")
    texts = tuple(str(value) for value in values)
    if len(texts) < 2:
        raise BadRow(f"{where} holds {len(texts)} option{'s' * (len(texts) != 1)}; a question needs at least two")
    for things, kind in (([text.strip() for text in texts], "options"), ([name for name, _ in labels], "labels")):
        again = [thing for thing, count in Counter(things).items() if count > 1]
        if again:
            raise BadRow(f"{where} holds {shown(again[0])} twice; {kind} must differ, or none can be told right")
    return AnswerOptions(texts, dict(labels))


def readings_of(cell: Any, options: AnswerOptions) -> dict[str, int]:
    """Every option that an answer may mean, by the way of reading it."""
    count = len(options.texts)
    cell = unwritten(cell)
    if isinstance(cell, list | tuple):
        if len(cell) == count and all(value in (0, 1) for value in cell) and sum(map(int, cell)) == 1:
            return {"marks": [int(value) for value in cell].index(1)}
        return readings_of(cell[0], options) if len(cell) == 1 and not isinstance(cell[0], list | tuple) else {}
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return {}
    written = {str(cell).strip()}
    if isinstance(cell, float) and cell.is_integer():  # what pandas makes of whole numbers beside missing ones
        written.add(str(int(cell)))
    found: dict[str, int] = {}
    for text in written:
        for place, option in enumerate(options.texts):
            if text == option.strip():
                found["text"] = place
        if text in options.labels:
            found["label"] = options.labels[text]
        letter = re.fullmatch(r"\(?([A-Za-z])[).:]?\)?", text)
        if letter and ord(letter[1].upper()) - ord("A") < count:
            found["letter"] = ord(letter[1].upper()) - ord("A")
            if "label" not in found and letter[1].upper() in options.labels:
                found["label"] = options.labels[letter[1].upper()]
        if re.fullmatch(r"[0-9]{1,4}", text):
            number = int(text)
            found |= {"from0": number} if number < count else {}
            found |= {"from1": number - 1} if 1 <= number <= count else {}
    return found


def golds_of(cells: Sequence[Any], options: Sequence[AnswerOptions], answers: AnswersAs, name: str) -> list[Any]:
    """The right option of every row, all answers read in one way.

    Args:
        cells: the answers.
        options: of every row.
        answers: how to read them; ``auto`` finds out.
        name: of the column, for messages.

    Returns:
        For each row an index, or the ``BadRow`` that says why there is none.

    Raises:
        TwoReadings: where two ways of reading hold for all rows and differ.
    """
    readings = [readings_of(cell, found) for cell, found in zip(cells, options, strict=True)]
    ways = [answers] if answers != "auto" else list(MEANINGS)
    held = {way: sum(way in reading for reading in readings) for way in ways}
    whole = [way for way in ways if held[way] == len(readings)]
    if "label" in whole:  # that is what the options' own labels are for
        whole = [way for way in whole if way in ("label", "text")]
    if not whole:
        best = max(ways, key=lambda way: held[way])
        return [
            reading.get(best, _unread(cell, found, reading, best if held[best] else "", name))
            for cell, found, reading in zip(cells, options, readings, strict=True)
        ]
    for other in whole[1:]:
        for number, reading in enumerate(readings):
            if reading[other] != reading[whole[0]]:
                one, two = (
                    f"{MEANINGS[way]} ({shown(options[number].texts[reading[way]])})" for way in (whole[0], other)
                )
                raise TwoReadings(
                    f"row {number + 1}: {name} {shown(cells[number])} may be {one} or {two}, and no row of the file "
                    f"decides; say which with --answers {whole[0]} or --answers {other}",
                    (whole[0], other),
                )
    return [reading[whole[0]] for reading in readings]


def _unread(cell: Any, options: AnswerOptions, reading: Mapping[str, int], best: str, name: str) -> BadRow:
    if missing(cell) or str(cell).strip() in ("-1", "-1.0"):
        return BadRow(f"{name} is {shown(cell)}: no answer is given (splits for tests hide them)")
    if best and reading:
        return BadRow(
            f"{name} {shown(cell)} is not {MEANINGS[best]}, as in other rows; all answers are read in one way"
        )
    last = chr(ord("A") + min(len(options.texts), 26) - 1)
    return BadRow(
        f"{name} {shown(cell)} is none of the {len(options.texts)} options; give an option's text, a letter from A to "
        f"{last}, or an index"
    )


def short_answer(cell: Any, name: str) -> str:
    r"""The short answer in a cell: what follows ``####`` or ``The answer is``, else what a ``\boxed{}`` holds, else all
    of it.

    Raises:
        BadRow: if it is no short text, or two of these differ.
    """
    if isinstance(cell, bool) or not isinstance(cell, str | int | float) or missing(cell):
        raise BadRow(f"{name} is {shown(cell)}; give a short text or a number")
    if isinstance(cell, float) and math.isfinite(cell) and cell.is_integer():
        cell = int(cell)
    text = str(cell).strip()
    if len(text) > LONGEST:
        raise BadRow(f"{name} has {len(text):,} characters; give a short text or a number")
    marked = [found[-1] for marker in _MARKERS if (found := re.findall(marker, text, re.M))]
    marked += [inner] if (inner := boxed(text)) else []
    answers = [boxed(one) or one.strip().strip("$") for one in marked] or [text]
    for other in answers[1:]:
        if set(spellings(other)).isdisjoint(spellings(answers[0])):
            raise BadRow(
                f"{name} ends in two answers, {shown(answers[0])} and {shown(other)}; give the short one alone"
            )
    if not spellings(answers[0]) or len(answers[0]) > _LONGEST_ANSWER or "\n" in answers[0]:
        raise BadRow(f"{name} is {shown(cell)}; give a short text or a number")
    return answers[0]


def response_text(cell: Any, name: str) -> str:
    """The response in a cell, as it stands.

    Raises:
        BadRow: if it is no text.
    """
    if missing(cell) or not isinstance(cell, str):
        raise BadRow(f"{name} is {shown(cell)}; give a text")
    return cell
