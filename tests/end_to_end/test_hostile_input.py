"""Input that nobody sends by accident, and some that people do: one line, no traceback, no memory or time without end,
nothing run that comes with it, and nothing that steers the terminal."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from cola_learn.chains import Chain
from cola_learn.console import printable
from cola_learn.rewards.grading import Grader, boxed
from cola_learn.tasks.answers import spellings
from tests.end_to_end.test_damaged_files import assert_one_line

Command = Callable[..., tuple[int, str]]


def row(**values: Any) -> str:
    return json.dumps({"question": "Why?", "choices": ["a", "b"], "answer": "a"} | values) + "\n"


FILES: dict[str, tuple[str, str | bytes, str]] = {
    "brackets": ("q.jsonl", "[" * 1_000_000, "line 1 is not JSON"),
    "brackets in a file": ("q.json", "[" * 1_000_000, "cannot be read"),
    "braces": ("q.json", '{"a":' * 100_000, "cannot be read"),
    "a long number": ("q.jsonl", '{"question": "q", "choices": ["a", "b"], "answer": ' + "1" * 5000 + "}", "line 1"),
    "a long number as text": ("q.jsonl", row(answer="1" * 5000), "row 1"),
    "a number beyond all": ("q.jsonl", row().replace('"a"}', "1e999}"), "row 1"),
    "not a number": ("q.jsonl", row().replace('"a"}', "NaN}"), "row 1"),
    "half a surrogate": ("q.jsonl", row(question="Why \ud800?"), "half of a surrogate pair"),
    "half a surrogate in an option": ("q.jsonl", row(choices=["a", "\udfff"]), "half of a surrogate pair"),
    "half a surrogate in an id": ("q.jsonl", row(id="\udc80"), "half of a surrogate pair"),
    "bytes": ("q.jsonl", b"\xff\xfe\x00\x01" * 100, "cannot be read"),
    "bytes as CSV": ("q.csv", b"\xff\xfe\x00\x01" * 100, "cannot be read"),
    "no columns": ("q.csv", "\n\n\n", "is empty"),
    "a column twice": ("q.csv", "question,question\na,b\n", "need names that differ"),
    "ESC in a column": ("q.csv", "question,\x1b[31mred\na,b\n", "\\x1b[31mred"),
    "BEL in an id": ("q.jsonl", row(id="\x07", answer="c"), "'\\x07'" if False else "none of the 2 options"),
    "markup in an answer": ("q.jsonl", row(answer="[/x]"), "[/x]"),
    "a list": ("q.jsonl", "[1, 2]\n", "row 1"),
    "null": ("q.jsonl", "null\n", "row 1"),
    "options that are one": ("q.jsonl", row(choices=["a"]), "row 1"),
    "options that are alike": ("q.jsonl", row(choices=["a", "a"]), "row 1"),
    "no options": ("q.jsonl", row(choices=[]), "row 1"),
    "options that nest": ("q.jsonl", row(choices=[["a"], ["b"]]), "row 1"),
    "an answer that nests": ("q.jsonl", row(answer={"a": 1}), "row 1"),
    "a question that is a number": ("q.jsonl", row(question=7), "row 1"),
    "an empty question": ("q.jsonl", row(question="  "), "row 1"),
    "a megabyte": ("q.jsonl", row(question="why " * 250_000), "shorten it"),
    "the same id twice": ("q.jsonl", row(id="x") + row(id="x", question="How?"), "x"),
    "a damaged gzip": ("q.jsonl.gz", b"\x1f\x8b\x08\x00" + b"\x00" * 30, "cannot be read"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_of_questions(case: str, tmp_path: Path, command: Command) -> None:
    name, content, message = FILES[case]
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    code, said = command("cola_learn.label", "--tasks", file, "--output", tmp_path / "out", "--tracking", "disabled")
    assert_one_line(code, said, message)
    assert not any(ord(char) < 32 and char != "\n" for char in said)
    assert not (tmp_path / "out").exists()


def test_a_parquet_file_that_claims_millions_of_rows(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "q.parquet"
    count = 5_000_000
    columns = {name: pyarrow.repeat("a", count) for name in ("question", "A", "B", "answer")}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    assert file.stat().st_size < 1_000_000
    code, said = command("cola_learn.label", "--tasks", file, "--output", tmp_path / "out")
    assert_one_line(code, said, "claims 5,000,000 rows")


CHAINS = [
    "(0-3)x999999999",
    "0-" + "9" * 400,
    "(0)x" + "9" * 5000,
    "0-29 " * 100_000,
    "-1",
    "3-1",
    "0..29",
    "\x1b[31m0",
    "٣",
]


@pytest.mark.parametrize("text", CHAINS, ids=range(len(CHAINS)))
def test_menus(text: str, tmp_path: Path, command: Command) -> None:
    """A menu is refused before anything is written; the corrected one is then taken."""
    menu = tmp_path / "menu.txt"
    menu.write_text(f"0-29\n{text}\n")
    arguments = ("--tasks", "arc_easy:validation", "--limit", "1", "--output", tmp_path / "out")
    code, said = command("cola_learn.label", "--config", "menu", "--search.file", menu, *arguments)
    assert_one_line(code, said, "menu.txt line 2: ")
    assert not list(tmp_path.glob("out/**/manifest.json"))


def test_a_corrected_menu_is_taken(tmp_path: Path, command: Command) -> None:
    menu = tmp_path / "menu.txt"
    arguments = ("--tasks", "arc_easy:validation", "--limit", "1", "--output", tmp_path / "out")
    for text, expected in (("0-29\n0-31\n", 2), ("0-29\n0-28\n", 0)):
        menu.write_text(text)
        code, said = command("cola_learn.label", "--config", "menu", "--search.file", menu, *arguments)
        assert code == expected, said


def test_chains_have_an_end() -> None:
    with pytest.raises(ValueError, match="at most 16 times the 30 layers"):
        Chain.parse("(0-29)x17", 30)
    assert Chain.parse("(0-29)x16", 30).depth == 480


@pytest.mark.parametrize(
    "text", ["\\boxed{" * 20_000, "{" * 100_000, "\\frac{" * 20_000, "$" * 50_000, "9" * 50_000, "^" * 10_000]
)
def test_answers_take_no_time_without_end(text: str) -> None:
    """These took minutes once; a test that hangs fails."""
    boxed(text)
    spellings(text[:2000])
    assert not Grader().grade(text[:5000], "7").right


NAMES = [
    "[v2]",
    "[/x]",
    "$\\frac$",
    "it's",
    "; rm -rf ~",
    "\x1b[31mred",
    "-",
    "a b",
    "two  spaces",
    "ü",
    "[bold]b[/bold]",
]
_QUICK = 7  # names of those above that make test tries


@pytest.mark.parametrize(
    "name",
    [name if index < _QUICK else pytest.param(name, marks=pytest.mark.slow) for index, name in enumerate(NAMES)],
    ids=range(len(NAMES)),
)
def test_names_of_folders(name: str, tmp_path: Path, command: Command) -> None:
    """The run ends well, its folder is named as it is, and what is printed can be pasted into a shell."""
    output = tmp_path / name / "labels"
    arguments = ("--limit", "6", "--search.simulations", "4", "--tracking", "disabled")
    code, said = command("cola_learn.label", *arguments, "--output", output)
    assert code == 0, said
    assert "\x1b" not in said
    assert printable(str(output)) in said
    lines = [line.strip() for line in said.splitlines() if line.strip().startswith("python -m")]
    if name.isprintable():
        assert [shlex.split(line)[-1] for line in lines] == [str(output), str(output.parent / "train")]
    code, said = command("cola_learn.label", "inspect", output, "--plot", tmp_path / "heat.svg")
    assert code in (0, 2), said
    assert "Traceback" not in said


def test_printable_keeps_what_people_write() -> None:
    assert printable("a\n\tb é 漢 🙂") == "a\n\tb é 漢 🙂"
    assert printable("\x1b[31m\x07\ud800\x9b") == "\\x1b[31m\\x07\\ud800\\x9b"


QUESTIONS = ["\x00", "why " * 50_000, "\udc80"]


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_questions_asked(question: str, command: Command) -> None:
    code, said = command("cola_learn.infer", question, "--controller", "checkpoints/menu")
    assert code in (0, 2), said
    assert "Traceback" not in said
