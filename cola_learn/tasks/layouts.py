"""Rows as questions: layouts that are known as a whole, and files of which every column is accounted for."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cola_learn.console import console
from cola_learn.errors import UserError
from cola_learn.tasks.answer_columns import BadRow, refuse_bad
from cola_learn.tasks.columns import Cells, Fields, Layout, cells_of, read_fields, roles_of
from cola_learn.tasks.question_files import Row
from cola_learn.tasks.questions import Question
from cola_learn.tasks.registry import BENCHMARKS
from cola_learn.tasks.suggestion import suggestion
from cola_learn.tasks.texts import passage

_ROW_NAMES = {"id", "idx", "index", "Unnamed: 0", "__index_level_0__"}


@dataclass(frozen=True)
class Known:
    """A layout that is known as a whole.

    Attributes:
        columns: those that it needs; as ``--columns`` takes them where ``read`` is None, else their names.
        ignored: those that it may have beside them; ``*`` is any.
        read: text, options and gold of a row, where ``--columns`` cannot say it.
        form: of the ``Question``: prefix, suffix, blank.
        open: whether it is one of open questions.
    """

    columns: str
    ignored: str = ""
    read: Callable[[Mapping[str, Any]], tuple[str, list[str], int]] | None = None
    form: tuple[tuple[str, Any], ...] = ()
    open: bool = False

    def fits(self, names: set[str], more: bool = False) -> bool:
        """Whether a file with these columns has this layout, or with ``more`` holds it."""
        named = Layout(self.columns).named.values() if self.read is None else [self.columns.split()]
        needed = {name.partition(".")[0] for own in named for name in own}
        return needed <= names and (
            more or self.ignored == "*" or names - needed <= {*self.ignored.split("|"), *_ROW_NAMES}
        )

    def fields(
        self, rows: Sequence[Row], names: set[str], more: Sequence[str] = (), answered: bool = True
    ) -> list[Fields]:
        """The rows as questions, which may have no answers if they need not be ``answered``; ``more`` columns are
        ignored.

        Raises:
            UserError: naming the first row that cannot be read.
        """
        if self.read is None:
            ignored = [name for name in self.ignored.split("|") if name in names or name == "*"]
            layout = Layout(self.columns, open=self.open, ignore=",".join((*ignored, *more)))
            return read_fields(cells_of(rows, layout), layout, answered)
        found: list[Any] = []
        for number, row in enumerate(rows, start=1):
            try:
                text, choices, gold = self.read(row)
                known = 0 <= gold < len(choices) or not answered
                fits = text.strip() and known and (not dict(self.form).get("blank") or "_" in text)
                bad = BadRow("has no question, or no answer (splits for tests hide them)")
                found.append(Fields(str(number), text, tuple(choices), gold) if fits else bad)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                found.append(BadRow(f"has no answer that can be read ({error}; splits for tests hide them)"))
        refuse_bad(found)
        own = [str(next((row[name] for name in ("id", "idx", "ind") if row.get(name) is not None), "")) for row in rows]
        whole = all(own) and len(set(own)) == len(own)
        return [replace(one, id=name) if whole else one for one, name in zip(found, own, strict=True)]


def _benchmark(task: str, columns: str, ignored: str = "") -> Known:
    """The rows of a registered benchmark, read as there."""
    found = BENCHMARKS[task]
    form = (("prefix", found.prefix), ("suffix", found.suffix), ("blank", found.blank))
    return Known(columns, ignored, found.read, form)


def _copa(row: Mapping[str, Any]) -> tuple[str, list[str], int]:
    """COPA as a sentence that the options end, as in lm-evaluation-harness."""
    link = {"cause": "because", "effect": "therefore"}[row["question"]]
    options = [row[name][:1].lower() + row[name][1:] for name in ("choice1", "choice2")]
    return f"{row['premise'].strip().rstrip('.')} {link}", options, int(row["label"])


def _aqua(row: Mapping[str, Any]) -> tuple[str, list[str], int]:
    """AQuA-RAT, whose options begin with their letters: ``A)21``."""
    options = [option.partition(")") for option in row["options"]]
    return (
        row["question"],
        [text.strip() for _, _, text in options],
        [own for own, _, _ in options].index(row["correct"]),
    )


def _response(*columns: str) -> Callable[[Mapping[str, Any]], tuple[str, list[str], int]]:
    """A prompt, of the first columns that hold one, and the response in the last."""

    def read(row: Mapping[str, Any]) -> tuple[str, list[str], int]:
        *asked, last = (row[name] or "" for name in columns)
        return "\n\n".join(filter(None, asked)), [last] if last.strip() else [], 0

    return read


_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant"}  # of ShareGPT


def _conversation(column: str, role: str, content: str) -> Callable[[Mapping[str, Any]], tuple[str, list[str], int]]:
    """A conversation whose last turn, the assistant's, is the response; one that ends with the user's has none."""

    def read(row: Mapping[str, Any]) -> tuple[str, list[str], int]:
        turns = [{"role": _ROLES.get(turn[role], turn[role]), "content": turn[content]} for turn in row[column]]
        if odd := [turn for turn in turns if turn["role"] not in ("system", "user", "assistant")]:
            raise ValueError(f"the role {odd[0]['role']!r} is none of system, user, assistant")
        if turns[-1:] and turns[-1]["role"] == "user":
            return json.dumps(turns), [], 0
        *asked, last = turns
        if last["role"] != "assistant" or not asked or asked[-1]["role"] != "user":
            raise ValueError("it does not end with the user's turn and the assistant's answer")
        return json.dumps(asked), [last["content"]] if last["content"].strip() else [], 0

    return read


_PLAIN = (("prefix", ""), ("suffix", ""))
_CHAT = (*_PLAIN, ("chat", True))
_LINE = (("prefix", ""), ("suffix", "\n"))
_ALPACA = (("prefix", "### Instruction:\n"), ("suffix", "\n\n### Response:\n"))
KNOWN = {
    "MMLU": Known("question=question,choices=choices,answer=answer", "subject"),
    "CommonsenseQA": Known("question=question,choices=choices,answer=answerKey", "question_concept"),
    "QASC": Known("question=question,choices=choices,answer=answerKey", "fact1|fact2|combinedfact|formatted_question"),
    "OpenBookQA": Known(
        "question=question_stem,choices=choices,answer=answerKey", "fact1|humanScore|clarity|turkIdAnonymized"
    ),
    "PIQA": _benchmark("piqa", "goal sol1 sol2 label"),
    "SocialIQA": _benchmark("social_iqa", "context question answerA answerB answerC label"),
    "WinoGrande": _benchmark("winogrande", "sentence option1 option2 answer", "qID"),
    "BoolQ": _benchmark("boolq", "question passage answer", "title"),
    "SciQ": _benchmark("sciq", "question distractor1 distractor2 distractor3 correct_answer support"),
    "HellaSwag": _benchmark(
        "hellaswag", "activity_label ctx_a ctx_b endings label", "ctx|ind|source_id|split|split_type|dataset"
    ),
    "COPA": Known("premise question choice1 choice2 label", "changed", _copa, _PLAIN),
    "SWAG": Known(
        "startphrase ending0 ending1 ending2 ending3 label",
        "video-id|fold-ind|sent1|sent2|gold-source|gold-type",
        lambda row: (row["startphrase"], [row[f"ending{place}"] for place in range(4)], int(row["label"])),
        _PLAIN,
    ),
    "AQuA-RAT": Known("question options correct rationale", "", _aqua),
    "CosmosQA": Known(
        "context question answer0 answer1 answer2 answer3 label",
        "",
        lambda row: (f"{row['context']}\n{row['question']}", [row[f"answer{n}"] for n in range(4)], int(row["label"])),
    ),
    "RACE": Known("question=article+question,choices=options,answer=answer", "example_id"),
    "MedMCQA": Known("question=question,choices=opa+opb+opc+opd,answer=cop", "choice_type|exp|subject_name|topic_name"),
    "MMLU-Pro": Known(
        "question=question,choices=options,answer=answer", "question_id|answer_index|cot_content|category|src"
    ),
    "GPQA": Known(
        "question=Question,choices=Correct Answer+Incorrect Answer 1+Incorrect Answer 2+Incorrect Answer 3,"
        "answer=Correct Answer,id=Record ID",
        "*",
    ),
    "TruthfulQA": Known("question=question,choices=mc1_targets.choices,answer=mc1_targets.labels", "mc2_targets"),
    "LogiQA": Known("question=context+query,choices=options,answer=correct_option"),
    "LogiQA of EleutherAI": Known("question=context+question,choices=options,answer=label"),
    "LogiQA 2": Known(
        "question=text+question,choices=options,answer=answer", "type|major_premise|minor_premise|conclusion"
    ),
    "prompts with responses": Known("prompt response", "", _response("prompt", "response"), _LINE),
    "prompts with outputs": Known("prompt output", "", _response("prompt", "output"), _LINE),
    "prompts with completions": Known("prompt completion", "", _response("prompt", "completion"), _PLAIN),
    "Alpaca": Known("instruction input output", "text", _response("instruction", "input", "output"), _ALPACA),
    "Dolly": Known(
        "instruction context response", "category", _response("instruction", "context", "response"), _ALPACA
    ),
    "conversations": Known(
        "messages", "prompt|prompt_id|source|category", _conversation("messages", "role", "content"), _CHAT
    ),
    "conversations of ShareGPT": Known("conversations", "", _conversation("conversations", "from", "value"), _CHAT),
    "passages": Known("text", "", lambda row: passage(row["text"]), _PLAIN),
    "SVAMP": Known("question=Body+Question,answer=Answer", "ID|Type|Equation|question_concat", open=True),
}


def read_questions(
    rows: Sequence[Row], task: str, split: str, named: str, layout: Layout, revision: str = "", answered: bool = True
) -> list[Question]:
    """Questions of rows.

    Args:
        rows: of a file.
        task, split: of the questions' names.
        named: what the user called the file by, for messages.
        layout: how it is to be read.
        revision: of the dataset on the hub that they are from.
        answered: whether they need answers; without, what is no known layout is read as prompts as they stand.

    Raises:
        UserError: naming what is not accounted for or cannot be read, with the options by which it can.
    """
    if not rows:
        return []
    _check_rows(rows, named)
    try:
        found, how, form = _read(rows, layout, answered)
    except UserError as error:
        raise UserError(f"{named} {error}") from None
    _say(f"{named.removeprefix('task ')}: {how}")
    plain = layout.open or not (answered or form or any(one.choices for one in found))
    form = dict(_LINE) if layout.of_responses else dict(_PLAIN) if plain else form
    return [
        Question(task, split, one.id, one.text, one.choices, one.gold, open=layout.open, revision=revision, **form)
        for one in found
    ]


def read_asked(rows: Sequence[Row], named: str, layout: Layout) -> list[Fields]:
    """What rows ask, by the same rules, whether or not they have options and an answer.

    Raises:
        UserError: naming what is not accounted for or cannot be read.
    """
    _check_rows(rows, named)
    known = _as_known(rows, layout, answered=False)
    try:
        if known and not isinstance(known[1], UserError):
            if dict(KNOWN[known[0]].form).get("chat"):
                raise UserError("holds conversations; give a question a row, or python -m cola_learn.infer --chat")
            found = known[1]
        else:
            found = read_fields(cells_of(rows, layout), layout, answered=False)
    except UserError as error:
        raise UserError(
            f"{named} {error}; say what they hold with --columns question=NAME,choices=NAME and --ignore NAME"
        ) from None
    return [replace(one, choices=()) for one in found] if layout.open else found


def _check_rows(rows: Sequence[Any], named: str) -> None:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise UserError(f"{named} row {number}: has {type(row).__name__}; give an object with question and answer")


def _as_known(rows: Sequence[Row], layout: Layout, answered: bool) -> tuple[str, list[Fields] | UserError] | None:
    """The layout that rows have which is known as a whole, and what they hold, or why they cannot be read by it."""
    names = {str(name) for row in rows for name in row}
    ignored = layout.ignored
    refused: tuple[str, UserError] | None = None
    if layout in (Layout(ignore=layout.ignore), Layout(open=True, ignore=layout.ignore)) and {*ignored} <= {
        *names,
        "*",
    }:
        for name, known in KNOWN.items():
            if known.open == layout.open and known.fits(names - {*ignored}, "*" in ignored):
                try:
                    return name, known.fields(rows, names - {*ignored}, ignored, answered)
                except UserError as error:
                    refused = name, error
    return refused


def _read(rows: Sequence[Row], layout: Layout, answered: bool) -> tuple[list[Fields], str, Mapping[str, Any]]:
    """The rows as they are read, how that is, and the form of the questions."""
    known = _as_known(rows, layout, answered)
    if known and not isinstance(known[1], UserError):
        unused = f"; not used: {layout.ignore}" if layout.ignore else ""
        return known[1], f"read as {known[0]}{unused}", dict(KNOWN[known[0]].form)
    cells = cells_of(rows, layout)
    try:
        return read_fields(cells, layout, answered), _described(cells, layout), {}
    except UserError as error:
        other = suggestion(cells, layout)
        hint = f"to read it, give {other.options()}" if other else ""
        if other and other.answers != layout.answers:
            hint += ", or another --answers: no row decides"
        if not other and " row " not in f" {error}":
            hint = (
                "say what they hold with --columns question=NAME,choices=NAME,answer=NAME (or question=NAME,"
                "response=NAME) and --ignore NAME; prompts alone are labelled with --responses own"
            )
        raise UserError(f"{known[1] if known else error}" + (f"; {hint}" if hint else "")) from None


def _described(cells: Cells, layout: Layout) -> str:
    """What each column is read as, in the words of ``--columns``, and which are not used."""
    roles = roles_of(cells, layout)
    answer = "response" if layout.of_responses else "answer"
    parts = {"question": roles.question, "choices": roles.choices, answer: roles.answers, "id": (roles.id,)}
    used = {name for names in parts.values() for name in names}
    unused = ", ".join(name for name in cells if name not in used)
    said = ", ".join(f"{field}={'+'.join(names)}" for field, names in parts.items() if any(names))
    return f"read with {said}" + (f"; not used: {unused}" if unused else "")


@cache
def _say(line: str) -> None:
    console.print(line, style="dim", soft_wrap=True)
