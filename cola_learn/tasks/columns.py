"""Which columns of a file hold what. Every column is used, bookkeeping, or named as ignored; else the file is refused,
with the options that decide."""

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cola_learn.errors import UserError
from cola_learn.tasks.answer_columns import (
    LONGEST,
    AnswerOptions,
    AnswersAs,
    BadRow,
    TwoReadings,
    caught,
    golds_of,
    missing,
    options_of,
    refuse_bad,
    response_text,
    short_answer,
    shown,
    unwritten,
)
from cola_learn.tasks.question_files import Row

Cells = Mapping[str, Sequence[Any]]  # of every column, by its name; fields of objects are columns named a.b
_FIELDS = ("question", "choices", "answer", "id", "response")
QUESTION = ("question", "question_stem", "question_text", "stem", "query", "problem", "prompt", "goal", "input")
CHOICES = ("choices", "options", "endings", "answers", "candidates", "alternatives", "answer_choices")
ANSWER = (
    *("answer", "answer_key", "label", "labels", "gold", "gold_index", "correct", "correct_answer", "correct_option"),
    *(
        "correct_choice",
        "correct_index",
        "answer_idx",
        "answer_index",
        "answer_id",
        "answer_letter",
        "target",
        "targets",
    ),
    *("cop", "final_answer", "gt_ans"),
)
_FAMILY = re.compile(r"(?:(option|choice|answer|ending|opt|op|sol|ans)_?)?([a-z]|[0-9]+)")
_ID = re.compile(r"(.*_)?(id|idx|ind|uid|uuid|guid|key|no|nr|number|index|index_level_0)|(qid|unnamed_0)")


@dataclass(frozen=True)
class Layout:
    """How a file is to be read where its column names and answers do not say so themselves.

    Attributes:
        columns: which column of a file holds what: question=q,choices=opts,answer=key,id=name, or, for long answers,
            question=q,response=r. Columns are joined with +: question=passage+q,choices=w+x+y+z. A field of an
            object is object.field.
        answers: how a file's answers name the right option: by its text, by the options' own label, by a letter from A,
            or by an index from 0 (from0) or 1 (from1). auto finds out, and refuses a file that can be read in two ways.
        open: the file holds open questions: a short answer, no options.
        ignore: columns of a file that are no part of the question: source,hint; '*' is all that are not used.

    Raises:
        ValueError: for columns that name no field, a response beside an answer, or several columns of responses.
    """

    columns: str = ""
    answers: AnswersAs = "auto"
    open: bool = False
    ignore: str = ""

    def __post_init__(self) -> None:
        for part in filter(None, self.columns.split(",")):
            field, equals, names = part.partition("=")
            if field.strip() == "context":
                raise ValueError(f"columns is {part!r}; write question={names}+question")
            if field.strip() not in _FIELDS or not equals or not all(name.strip() for name in names.split("+")):
                raise ValueError(f"columns is {part!r}; write {', '.join(_FIELDS)} as question=q,answer=a")
        if self.of_responses and (self.open or {"choices", "answer"} & self.named.keys()):
            raise ValueError(f"columns is {self.columns!r}; a response stands alone, without choices, answer or open")
        if (several := len(self.named.get("response", ()))) > 1:
            raise ValueError(f"columns names {several} columns of responses; give one")

    @property
    def named(self) -> dict[str, list[str]]:
        """Columns by field."""
        pairs = (part.partition("=") for part in filter(None, self.columns.split(",")))
        return {field.strip(): [name.strip() for name in names.split("+")] for field, _, names in pairs}

    @property
    def of_responses(self) -> bool:
        """Whether the file holds prompts with responses."""
        return "response" in self.named

    @property
    def ignored(self) -> list[str]:
        return [name.strip() for name in self.ignore.split(",") if name.strip()]

    def settings(self) -> dict[str, Any]:
        """What is not left to the file itself."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Layout(), name)}

    def options(self) -> str:
        """The settings as options of a command."""
        flags = {name: "true" if value is True else str(value) for name, value in self.settings().items()}
        return " ".join(f"--{name}" if name == "open" else f"--{name} {shlex.quote(flags[name])}" for name in flags)


@dataclass(frozen=True)
class Roles:
    """What the columns of a file hold: ``unknown`` are those that nothing says anything of."""

    question: tuple[str, ...]
    choices: tuple[str, ...]
    answers: tuple[str, ...]
    id: str
    unknown: tuple[str, ...]

    @property
    def right_has_a_column(self) -> bool:
        """Whether one of the columns of options is the answer, which must not show in their order."""
        return bool(self.answers) and set(self.answers) <= set(self.choices)


@dataclass(frozen=True)
class Fields:
    """A row as it was read: of an open question ``choices`` holds the answer alone."""

    id: str
    text: str
    choices: tuple[str, ...]
    gold: int


def cells_of(rows: Sequence[Row], layout: Layout) -> dict[str, list[Any]]:
    """The cells of every column. Objects that are not options are taken apart: ``mc1_targets.choices``.

    Raises:
        UserError: if the layout names a column that is not there.
    """
    wanted = [name for names in layout.named.values() for name in names]
    ignored = [name for name in layout.ignored if name != "*"]
    heads = {name.rpartition(".")[0] for name in (*wanted, *ignored)}
    found: dict[str, list[Any]] = {}

    def add(name: str, cells: list[Any]) -> None:
        given = [cell for cell in cells if not missing(cell)]
        objects = bool(given) and all(isinstance(cell, Mapping) for cell in given)
        if objects and name not in (*wanted, *ignored) and (name in heads or not any(map(_holds_options, given))):
            for field in dict.fromkeys(str(field) for cell in given for field in cell):
                add(f"{name}.{field}", [cell.get(field) if isinstance(cell, Mapping) else None for cell in cells])
        else:
            found[name] = cells

    for name in dict.fromkeys(str(name) for row in rows for name in row):
        add(name, [row.get(name) for row in rows])
    for option, names in (("--columns", wanted), ("--ignore", ignored)):
        for name in names:
            if name not in found:
                raise UserError(f"{option} names {name!r}; the columns are {', '.join(found)}")
    return found


def _holds_options(cell: Mapping[str, Any]) -> bool:
    names = [str(name).lower() for name in cell]
    return isinstance(cell.get("text"), list) or all(_FAMILY.fullmatch(name) for name in names)


def plain_name(name: str) -> str:
    """A column's name as the usual ones are written: ``answerKey`` and ``Answer Key`` are ``answer_key``."""
    last = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.rpartition(".")[2])
    return re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")


def usual(cells: Cells, names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """The columns with usual names, the most usual first."""
    plain = {name: plain_name(name) for name in cells if name not in taken and not all(map(missing, cells[name]))}
    return [name for usual in names for name in plain if plain[name] == usual]


def families(cells: Cells, pattern: re.Pattern[str] = _FAMILY) -> list[tuple[str, ...]]:
    """Columns that are numbered or lettered through from the beginning: A, B, C; option1, option2."""
    families: dict[tuple[str, bool], dict[int, str]] = {}
    for name in cells:
        match = pattern.fullmatch(plain_name(name))
        if match and (match[1] or not match[2].isdigit()):
            place = int(match[2]) if match[2].isdigit() else ord(match[2]) - ord("a")
            families.setdefault((match[1] or "", match[2].isdigit()), {}).setdefault(place, name)
    found = []
    for (_, counted), members in families.items():
        first = 1 if counted and 0 not in members else 0
        run = [members[place] for place in range(first, first + len(members)) if place in members]
        if first in members and all(place in members for place in range(first, first + len(run))) and len(run) > 1:
            found.append(tuple(run))
    return found


def lists(cells: Cells, names: Iterable[str]) -> list[str]:
    """Those of the columns that hold lists or objects."""
    return [name for name in names if any(isinstance(unwritten(cell), list | Mapping) for cell in cells[name])]


def is_bookkeeping(name: str, cells: Sequence[Any]) -> bool:
    """Whether a column holds no text and says nothing of the question: empty, constant, or the row's own name."""
    given = [cell for cell in cells if not missing(cell) and cell not in ([], {})]
    if not all(
        isinstance(cell, str | int | float) and len(str(cell)) <= 64 and not re.search(r"\s", str(cell).strip())
        for cell in given
    ):
        return False
    different, plain = len(set(given)), plain_name(name)
    if plain in (*QUESTION, *CHOICES, *ANSWER) and given:
        return False
    own_name = different == len(cells) and bool(_ID.fullmatch(plain))
    return not given or own_name or (different == 1 and len(given) == len(cells) > 1)


def is_spare(name: str, cells: Sequence[Any]) -> bool:
    """Whether a column need not be named: bookkeeping, or the rows' own names."""
    given = [str(cell) for cell in cells if not missing(cell)]
    return len(set(given)) == len(given) if plain_name(name) == "id" else is_bookkeeping(name, cells)


def roles_of(cells: Cells, layout: Layout) -> Roles:
    """What each column holds, by the layout and by usual names; nothing that two columns may be."""
    named = layout.named
    ignored = [] if "*" in layout.ignored else layout.ignored
    taken = {*ignored, *(name for own in named.values() for name in own)}
    left = {name: cells[name] for name in cells if name not in taken}
    choices = tuple(named.get("choices", ()))
    if not choices and not layout.open and not layout.of_responses:
        found = [*((name,) for name in lists(cells, usual(left, CHOICES))), *families(left)]
        choices = found[0] if len(found) == 1 else ()
    question = named.get("question") or usual(left, QUESTION, choices)[:1]
    answers = named.get("response") or named.get("answer") or usual(left, ANSWER, (*choices, *question))
    own = named.get("id") or usual(left, ("id",), (*choices, *question, *answers))
    used = {*question, *choices, *answers, *own, *ignored}
    rest = [name for name in cells if name not in used and not is_bookkeeping(name, cells[name])]
    unknown = () if "*" in layout.ignored else tuple(rest)
    return Roles(tuple(question), choices, tuple(answers), own[0] if own else "", unknown)


def read_fields(cells: Cells, layout: Layout, answered: bool = True) -> list[Fields]:
    """The rows as questions; if they need not be ``answered``, with or without options, and gold 0.

    Raises:
        UserError: naming columns that are not accounted for, or the first row that cannot be read.
    """
    roles, optionless = roles_of(cells, layout), layout.open or layout.of_responses
    wanted = {"question": "the question", "choices": "the options", "answers": "the answer"}
    for field, what in wanted.items():
        needed = field == "question" or (answered and not (optionless and field == "choices"))
        if needed and not getattr(roles, field):
            raise UserError(f"has columns {', '.join(cells)}, and none of them is {what} for sure")
    if roles.unknown:
        are = "columns {} are" if len(roles.unknown) > 1 else "column {} is"
        raise UserError(f"{are.format(', '.join(roles.unknown))} neither question, options nor answer")
    rows = range(len(cells[roles.question[0]]))
    texts = _each(rows, lambda row: _text([cells[name][row] for name in roles.question], roles.question))

    def options(row: int) -> AnswerOptions | None:
        given = [cells[name][row] for name in roles.choices]
        return None if not answered and all(map(missing, given)) else options_of(given, roles.choices)

    read: list[Any] = [None] * len(rows) if optionless else _each(rows, options)
    order = sorted if roles.right_has_a_column else list
    choices = [tuple(order(one.texts)) if one else () for one in read]
    if not answered:
        return [Fields(str(row + 1), text, own, 0) for row, text, own in zip(rows, texts, choices, strict=True)]
    if layout.of_responses:
        [name] = roles.answers
        golds = [0] * len(rows)
        choices = [(text,) for text in _each(rows, lambda row: response_text(cells[name][row], name))]
    elif layout.open:
        answers = _agreed(roles, lambda name, _: [caught(short_answer, cell, name) for cell in cells[name]], "auto")
        golds, choices = [0] * len(rows), [(answer,) for answer in answers]
    elif roles.right_has_a_column:
        right = cells[roles.answers[0]]
        refuse_bad([BadRow(f"{roles.answers[0]} is {shown(cell)}") if missing(cell) else cell for cell in right])
        golds = [own.index(str(gold)) for own, gold in zip(choices, right, strict=True)]
    else:
        golds = _agreed(roles, lambda name, way: golds_of(cells[name], read, way, name), layout.answers)
    ids = _ids(cells.get(roles.id, [None] * len(rows)))
    return [Fields(*each) for each in zip(ids, texts, choices, golds, strict=True)]


def _text(parts: Sequence[Any], names: Sequence[str]) -> str:
    """The question of a row: the texts of its columns, one a line."""
    found = []
    for part, name in zip(parts, names, strict=True):
        lines = unwritten(part)
        if isinstance(lines, list) and lines and all(isinstance(line, str) for line in lines):
            part = "\n".join(lines)
        if not missing(part) and not isinstance(part, str):
            raise BadRow(f"{name} is {shown(part)}; give a text")
        found += [] if missing(part) else [part]
    if not found:
        raise BadRow(f"{'+'.join(names)} is {shown(parts[0])}; give a text")
    text = "\n".join([*(part.strip() for part in found[:-1]), found[-1]])
    if len(text) > LONGEST:
        raise BadRow(f"{'+'.join(names)} has {len(text):,} characters; at most {LONGEST:,} are read")
    return text


def _each(rows: Iterable[int], read: Callable[[int], Any]) -> list[Any]:
    found = [caught(read, row) for row in rows]
    refuse_bad(found)
    return found


def _agreed(roles: Roles, read: Callable[[str, Any], list[Any]], answers: AnswersAs) -> list[Any]:
    """What all columns that may be the answer say alike, in every row."""
    clear: dict[str, list[Any]] = {}
    vague: dict[str, TwoReadings] = {}
    for name in roles.answers:
        try:
            clear[name] = read(name, answers)
        except TwoReadings as error:
            vague[name] = error
    if not clear:
        raise next(iter(vague.values()))
    (first, chosen), *others = clear.items()
    refuse_bad(chosen)
    others += [
        (name, next((found for way in error.ways if (found := read(name, way)) == chosen), []))
        for name, error in vague.items()
    ]
    for name, found in others:
        if found != chosen:
            differs = (row for row, pair in enumerate(zip(chosen, found, strict=False), start=1) if pair[0] != pair[1])
            raise UserError(f"row {next(differs, 1)}: columns {first} and {name} may be the answer, and do not agree")
    return chosen


def _ids(cells: Sequence[Any]) -> list[str]:
    """The rows' own names, or their numbers."""
    found = [str(number) if missing(own) else str(own) for number, own in enumerate(cells, start=1)]
    own, count = Counter(found).most_common(1)[0]
    if count > 1:
        second = [number for number, other in enumerate(found, start=1) if other == own][1]
        raise UserError(f"row {second}: id {own!r} is there twice; ids must differ, or be ignored (--ignore)")
    return found
