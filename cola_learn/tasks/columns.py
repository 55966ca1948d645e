"""Recognizing the columns of a file, where their names can be read in one way only."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cola_learn.errors import UserError
from cola_learn.tasks.answer_columns import (
    AnswerOptions,
    AnswersAs,
    BadRow,
    options_of,
    shown,
    unwritten,
)
from cola_learn.tasks.files import LONGEST, Row

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


MEANINGS = {
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


def refuse(named: str, faults: Sequence[tuple[int, str]]) -> None:
    if faults:
        number, reason = min(faults)
        others = len({row for row, _ in faults}) - 1
        more = f" ({others} more row{'s' * (others != 1)} cannot be read either)" if others else ""
        raise UserError(f"{named} row {number}: {reason}{more}")


class Columns:
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
                raise BadRow(f"{others} may be the question; say which with --columns question=NAME")
            found = value if found is None else found
        if not isinstance(found, str) or not found.strip():
            raise BadRow(f"{self._question[0]} is {shown(found)}; give a text")
        if len(found) > LONGEST:
            raise BadRow(f"{self._question[0]} has {len(found):,} characters; at most {LONGEST:,} are read")
        passage = row.get(self._context) if self._context else None
        return f"{str(passage).strip()}\n{found}" if passage not in (None, "") else found

    def options(self, row: Row) -> AnswerOptions:
        readings = []
        for columns in self._choices:
            values = row.get(columns[0]) if len(columns) == 1 else [row.get(name) for name in columns]
            if len(columns) == 1 and (values is None or values == ""):
                continue
            readings.append((columns, options_of(values, columns)))
        if not readings:
            raise BadRow(f"{self._choices[0][0]} is empty; give at least two options")
        for columns, found in readings[1:]:
            if found.texts != readings[0][1].texts:
                first, second = ("+".join(names) for names in (readings[0][0], columns))
                raise BadRow(f"{first} or {second} may be the options; say which with --columns choices=NAME")
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
                any(isinstance(unwritten(row.get(name)), list | dict) for row in self._rows)
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
            or any(isinstance(unwritten(row.get(name)), list | dict) for row in self._rows[:100])
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
