"""Files of questions in the layouts that people have: each is read right, or refused with what decides."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.errors import UserError
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.files import HUB
from cola_learn.tasks.load import load_task

Q = "Which is a gas?"
C = ["gold", "iron", "helium", "wood"]
GSM = "She has 5+5=<<5+5=10>>10 of them.\n#### 10"
HELIUM = (Q, (*C,), 2)


def row(**fields: Any) -> list[dict[str, Any]]:
    return [fields]


# what is in the file, how it is to be read, and the question that it holds or the refusal
LAYOUTS: dict[str, tuple[list[Any], dict[str, Any], Any]] = {
    "index": (row(question=Q, choices=C, answer=2), {}, HELIUM),
    "letter": (row(question=Q, choices=C, answer="C"), {}, HELIUM),
    "letter, small, with a space": (row(question=Q, choices=C, answer=" c"), {}, HELIUM),
    "letter in brackets": (row(question=Q, choices=C, answer="(C)"), {}, HELIUM),
    "text": (row(question=Q, choices=C, answer="helium"), {}, HELIUM),
    "options": (row(question=Q, options=C, answer="C"), {}, HELIUM),
    "endings and label": (row(question=Q, endings=C, label=2), {}, HELIUM),
    "answers are the options": (row(question=Q, answers=C, correct=2), {}, HELIUM),
    "capitals": (row(Question=Q, Choices=C, Answer="C"), {}, HELIUM),
    "ARC with letters": (row(question=Q, choices={"text": C, "label": [*"ABCD"]}, answerKey="C"), {}, HELIUM),
    "ARC with numbers from 1": (row(question=Q, choices={"text": C, "label": [*"1234"]}, answerKey="3"), {}, HELIUM),
    "options by letter": (row(question=Q, options=dict(zip("ABCD", C, strict=True)), answer="C"), {}, HELIUM),
    "options by letter, text beside": (
        row(question=Q, options=dict(zip("ABCD", C, strict=True)), answer="helium", answer_idx="C"),
        {},
        HELIUM,
    ),
    "columns A to D": (row(question=Q, **dict(zip("ABCD", C, strict=True)), answer="C"), {}, HELIUM),
    "columns a to d, one empty": (row(question=Q, a="x", b="y", c="z", d="", answer="B"), {}, (Q, ("x", "y", "z"), 1)),
    "option_a": (row(question=Q, option_a="x", option_b="y", answer="b"), {}, (Q, ("x", "y"), 1)),
    "option1, answer 2": (row(sentence=Q, option1="x", option2="y", answer="2"), {"columns": "question=sentence"}, (Q, ("x", "y"), 1)),
    "option1, answer by name": (row(question=Q, option1="x", option2="y", answer="option1"), {}, (Q, ("x", "y"), 0)),
    "ending0 and label 1": (row(question=Q, ending0="x", ending1="y", label=1), {}, (Q, ("x", "y"), 1)),
    "opa to opd, cop": (row(question=Q, opa="x", opb="y", opc="z", opd="w", cop=0), {}, (Q, ("x", "y", "z", "w"), 0)),
    "marks": (row(question=Q, choices=C, label=[0, 0, 1, 0]), {}, HELIUM),
    "marks as truths": (row(question=Q, choices=C, correct=[False, False, True, False]), {}, HELIUM),
    "objects with text and label": (
        row(question=Q, choices=[{"label": a, "text": b} for a, b in zip("ABCD", C, strict=True)], answer="C"),
        {},
        HELIUM,
    ),
    "two answers that agree": (row(question=Q, choices=C, answer="C", label=2), {}, HELIUM),
    "a number beyond from 0": (row(question=Q, choices=C, answer="4"), {}, (Q, (*C,), 3)),
    "dates stay texts": (
        row(question=Q, choices=["2020-01-01", "2021-01-01"], answer="2021-01-01"),
        {},
        (Q, ("2020-01-01", "2021-01-01"), 1),
    ),
    "numbers stay as written": (row(question=Q, choices=[1, 2.5], answer="A"), {}, (Q, ("1", "2.5"), 0)),
    "unusual names": (row(q=Q, opts=C, key="C"), {"columns": "question=q,choices=opts,answer=key"}, HELIUM),
    "unusual columns of options": (row(question=Q, w="x", v="y", answer="v"), {"columns": "choices=w+v"}, (Q, ("x", "y"), 1)),
    "a passage": (row(question=Q, passage="P.", choices=C, answer="C"), {"columns": "context=passage"}, (f"P.\n{Q}", (*C,), 2)),
    "a passage left out": (row(question=Q, passage="P.", choices=C, answer="C"), {"columns": "context="}, HELIUM),
    "said to count from 1": (row(question=Q, choices=C, answer="3"), {"answers": "from1"}, HELIUM),
    "said to count from 0": (row(question=Q, choices=C, answer="2"), {"answers": "from0"}, HELIUM),
    "working and ####": (row(question=Q, answer=GSM), {"open": True}, (Q, "10")),
    "a solution with a box": (row(problem=Q, answer="So it is $\\boxed{\\frac12}$."), {"open": True}, (Q, "\\frac12")),
    "a short answer": (row(question=Q, answer=4), {"open": True}, (Q, "4")),
    "open in spite of options": (row(question=Q, choices=C, answer="helium"), {"open": True}, (Q, "helium")),
    # refused: two readings
    "numeric text": (row(question=Q, choices=C, answer="3"), {}, "answer '3' may be read as a number from 0 ('wood') or as a number from 1 ('helium')"),
    "numeric options": (row(question=Q, choices=["1", "2", "3"], answer="2"), {}, "may be read as an option's text ('2') or as a number from 0 ('3')"),
    "options that are letters": (row(question=Q, choices=["B", "A"], answer="B"), {}, "may be read as an option's text ('B') or as a letter from A ('A')"),
    "sol1 and label 1": (row(goal=Q, sol1="x", sol2="y", label=1), {}, "may be read as a number from 0 ('y') or as a number from 1 ('x')"),
    "two answers that differ": (row(question=Q, choices=C, answer="C", label=1), {}, "columns answer and label name different answers; say which holds with --columns answer=answer"),
    "two columns of options": (row(question=Q, choices=C, options=C[::-1], answer="helium"), {}, "choices or options may be the options; say which with --columns choices=NAME"),
    "two questions": (row(question=Q, query="Another?", choices=C, answer="C"), {}, "question or query may be the question"),
    "a passage that nobody spoke of": (row(question=Q, passage="P.", choices=C, answer="C"), {}, "is column passage to be read before the question? give --columns context=passage"),
    # refused: no question with options
    "working without --open": (row(question=Q, answer=GSM), {}, "no options; give --columns choices=NAME, or --open"),
    "no options": (row(question=Q, answer="4"), {}, "has columns question, answer and no options"),
    "distractors": (row(question=Q, distractors=["x", "y"], answer="z"), {}, "column distractors looks like options"),
    "a list in an unusual column": (row(question=Q, things=C, answer="C"), {}, "column things looks like options; give --columns choices=things"),
    "unusual names, unsaid": (row(q=Q, opts=C, key="C"), {}, "which is the question? give --columns question=NAME"),
    "no answer column": (row(question=Q, choices=C, key="C"), {}, "which column is the answer? give --columns answer=NAME"),
    "a wrong name": (row(question=Q, choices=C, answer="C"), {"columns": "answer=key"}, "--columns answer=key: "),
    # refused: rows
    "one option": (row(question=Q, choices=["x"], answer=0), {}, "row 1: choices holds 1 option; a question needs at least two"),
    "twins": (row(question=Q, choices=["x", "y", " x"], answer=0), {}, "row 1: choices holds 'x' twice"),
    "beyond the options": (row(question=Q, choices=C, answer="E"), {}, "row 1: answer 'E' is none of the 4 options"),
    "a hidden answer": (row(question=Q, choices=C, label=-1), {}, "row 1: label is -1: no answer is given"),
    "an empty answer": (row(question=Q, choices=C, answer=""), {}, "row 1: answer is '': no answer is given"),
    "nothing for an answer": (row(question=Q, choices=C, answer=None), {}, "row 1: answer is None: no answer is given"),
    "an empty option": (row(question=Q, choices=["x", " ", "y"], answer=0), {}, "row 1: choices holds ' '; every option is a text"),
    "two marks": (row(question=Q, choices=C, label=[0, 1, 1, 0]), {}, "row 1: label [0, 1, 1, 0] is none of the 4 options"),
    "options in one text": (row(question=Q, choices="x|y", answer=0), {}, "row 1: choices is 'x|y'; give a list of texts"),
    "a label that is a number": (row(question=Q, choices=C, answer=1.5), {}, "row 1: answer 1.5 is none of the 4 options"),
    "an answer that is a list": (row(question=Q, answer=["4"]), {"open": True}, "row 1: answer is ['4']; give a short text or a number"),
    "an answer that is an essay": (row(question=Q, answer="x " * 300), {"open": True}, "give a short text or a number"),
    "no question": (row(question=" ", choices=C, answer=2), {}, "row 1: question is ' '; give a text"),
    "ids twice": (
        [{"question": Q, "choices": C, "answer": 2, "id": 7}, {"question": Q, "choices": C, "answer": 2, "id": 7}],
        {},
        "row 2: id '7' is there twice",
    ),
    "not an object": ([{"question": Q, "choices": C, "answer": 2}, ["x"]], {}, "row 2: has list"),
    "bad rows are counted": (
        [{"question": Q, "choices": C, "answer": 2}] + [{"question": Q, "choices": C, "answer": "Z"}] * 3,
        {},
        "row 2: answer 'Z' is none of the 4 options; give an option's text, a letter from A to D, or an index (2 more rows",
    ),
    "a setting of no field": (row(question=Q, choices=C, answer=2), {"columns": "prompt=q"}, "--columns 'prompt=q' is not read"),
}  # fmt: skip


def as_jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in rows)


def check(task: Path | str, layout: dict[str, Any], expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(UserError) as error:
            load_task(str(task), layout=Layout(**layout))
        assert expected in str(error.value)
        assert "\n" not in str(error.value)
        return
    question = load_task(str(task), layout=Layout(**layout))[0]
    if layout.get("open"):
        assert (question.text, question.choices[0], question.open) == (*expected, True)
        assert (question.prefix, question.suffix) == ("", "")
    else:
        assert (question.text, question.choices, question.gold) == expected
        assert not question.open


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    rows, layout, expected = LAYOUTS[name]
    (tmp_path / "mine.jsonl").write_text(as_jsonl(rows))
    check(tmp_path / "mine.jsonl", layout, expected)


def numbers(values: list[Any], count: int = 4) -> list[dict[str, Any]]:
    return [{"question": f"{Q} {n}", "choices": C[:count], "answer": value} for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "golds"),
    [
        ([0, 1, 3], [0, 1, 3]),
        ([1, 2, 4], [0, 1, 3]),  # 4 of 4 options can only be counted from 1
        (["1", "0", "3"], [1, 0, 3]),
        (["1", "4", "3"], [0, 3, 2]),
        (["1", "2", "3"], None),
        ([0, 1, 4], None),  # from 0 and beyond the options
        (["A", "helium", 3], [0, 2, 3]),  # each way is clear by itself
        (["A", "2"], None),
    ],
)
def test_the_whole_file_decides_where_numbers_begin(tmp_path: Path, values: list[Any], golds: list[int] | None) -> None:
    (tmp_path / "mine.jsonl").write_text(as_jsonl(numbers(values)))
    if golds is None:
        with pytest.raises(UserError):
            load_task(str(tmp_path / "mine.jsonl"))
    else:
        assert [question.gold for question in load_task(str(tmp_path / "mine.jsonl"))] == golds


CSV = 'id,question,A,B,C,answer\r\n1,"Which, then?",0.10,NA,None,B\r\n2,Who?,x,"y ""z""",,A\r\n'
OBJECTS = [{"question": Q, "choices": C, "answer": "C"}]


def parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(OBJECTS), path)


FILES: dict[str, Callable[[Path], Any]] = {
    "a.jsonl": lambda path: path.write_text(as_jsonl(OBJECTS)),
    "bom.jsonl": lambda path: path.write_bytes(b"\xef\xbb\xbf" + as_jsonl(OBJECTS).encode()),
    "crlf.jsonl": lambda path: path.write_bytes(as_jsonl(OBJECTS).replace("\n", "\r\n\r\n").encode()),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(as_jsonl(OBJECTS).encode())),
    "a.jsonl.bz2": lambda path: path.write_bytes(bz2.compress(as_jsonl(OBJECTS).encode())),
    "a.jsonl.xz": lambda path: path.write_bytes(lzma.compress(as_jsonl(OBJECTS).encode())),
    "list.json": lambda path: path.write_text(json.dumps(OBJECTS, indent=1)),
    "table.json": lambda path: path.write_text(json.dumps({"version": "1", "data": OBJECTS})),
    "columns.json": lambda path: path.write_text(json.dumps({k: [v] for k, v in OBJECTS[0].items()})),
    "a.parquet": parquet,
    "text_list.csv": lambda path: path.write_text(f'question,options,answer\n{Q},"{C}",C\n'),
    "json_list.tsv": lambda path: path.write_text(f"question\toptions\tanswer\n{Q}\t'{json.dumps(C)}'\tC\n".replace("'", "")),
    "saved": lambda path: datasets.Dataset.from_list(OBJECTS).save_to_disk(str(path)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_kinds_of_files(tmp_path: Path, name: str) -> None:
    FILES[name](tmp_path / name)
    [question] = load_task(str(tmp_path / name))
    assert (question.text, question.choices, question.gold) == HELIUM
    assert question.task == name.split(".")[0]


@pytest.mark.parametrize("compress", [None, gzip.compress])
def test_cells_of_csv_are_texts(tmp_path: Path, compress: Callable[[bytes], bytes] | None) -> None:
    content = b"\xef\xbb\xbf" + CSV.encode()
    path = tmp_path / ("mine.csv" if compress is None else "mine.csv.gz")
    path.write_bytes(content if compress is None else compress(content))
    first, second = load_task(str(path))
    assert (first.text, first.choices, first.gold) == ("Which, then?", ("0.10", "NA", "None"), 1)
    assert (second.id, second.choices, second.gold) == ("2", ("x", 'y "z"'), 0)


def test_saved_splits(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(OBJECTS)
    datasets.DatasetDict({"train": rows, "validation": rows}).save_to_disk(str(tmp_path / "mine"))
    [question] = load_task(str(tmp_path / "mine"), "validation")
    assert question.key == "mine/validation/1"
    with pytest.raises(UserError, match=r"--split test is not in .*mine; choose train, validation"):
        load_task(str(tmp_path / "mine"), "test")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "holds no questions"),
        ("a.jsonl", b'{"question": "q"\n', "line 1 is not JSON"),
        ("a.jsonl", b'\n{"a": 1}\n{"a": \n', "line 3 is not JSON"),
        ("a.json", b'"text"', "holds a str; give a list of rows"),
        ("a.json", b'{"a": {"b": 1}}', "an object with a; give a list of rows"),
        ("a.csv", b"", "is empty; it needs a line of column names"),
        ("a.csv", b"a,a\n1,2\n", "need names that differ"),
        ("a.csv", b"question,answer\n1,2,3,4,5\n1,2\n\"", "cannot be read"),
        ("a.parquet", b"no", "cannot be read"),
        ("a.jsonl.gz", b"no", "cannot be read"),
        ("a.jsonl", b"\xff\xfe\x00", "cannot be read"),
        ("a.txt", b"x", "is of no known kind"),
        ("a.jsonl", b'{"question": ' + b"[" * 100_000, "line 1 is not JSON"),
    ],
)  # fmt: skip
def test_damaged_files_are_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    check(tmp_path / name, {}, message)


def test_names_of_datasets_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check(f"{HUB}only_a_name", {}, "names no dataset; write hub:ORG/NAME or hub:ORG/NAME:CONFIG")
    check(f"{HUB}nobody/nothing", {}, "hub:nobody/nothing --split validation could not be loaded")


def test_layouts_are_for_files() -> None:
    with pytest.raises(UserError, match="--columns, --answers and --open are for files; arc_easy is read"):
        load_task("arc_easy", layout=Layout(open=True))


words = st.text(st.characters(categories=("L", "N", "Zs", "P")), min_size=1, max_size=12).filter(str.strip)


@given(st.lists(words, min_size=2, max_size=6, unique_by=str.strip), st.data())
def test_any_options_and_any_text_answer(
    tmp_path_factory: pytest.TempPathFactory, options: list[str], data: Any
) -> None:
    """An answer given as an option's text is that option, or the file is refused; it is never another."""
    gold = data.draw(st.integers(0, len(options) - 1))
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(as_jsonl([{"question": Q, "choices": options, "answer": options[gold]}]))
    try:
        golds = [question.gold for question in load_task(str(path))]
    except UserError:
        golds = []
    assert golds in ([], [gold])
