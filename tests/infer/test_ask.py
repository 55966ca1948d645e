"""Files of questions and conversations, as a user asks them."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cola_learn import Chain, Controller
from cola_learn.console import PlainConsole
from cola_learn.infer import question_file as file_module
from cola_learn.infer.__main__ import INFER
from cola_learn.infer.chooser import strip
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.layouts import read_asked

Command = Callable[..., tuple[int, str]]
MENU = Path(__file__).parents[2] / "checkpoints" / "menu"
ASKED: list[dict[str, Any]] = [
    {"id": 7, "question": "What is the capital of France?"},
    {"id": 8, "question": "Which of these is a metal?", "choices": ["wood", "iron", "glass"]},
    {"id": 9, "question": "What do plants need\u2028to grow?"},
    {"id": 10, "question": "Name a planet."},
]


def asked(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "asked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def arguments(folder: Path, *more: str) -> list[str]:
    files = ["--questions", str(folder / "asked.jsonl"), "--output", str(folder / "answered.jsonl")]
    return [*files, "--batch", "2", "--decoding.max_new_tokens", "6", *more]


def test_a_file_is_answered_as_single_questions_are(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(tmp_path, ASKED)
    code, said = command("cola_learn.infer", *arguments(tmp_path, "--controller", str(MENU)))
    assert code == 0, said
    assert "4 questions" in said
    answered = [json.loads(line) for line in (tmp_path / "answered.jsonl").read_bytes().splitlines()]
    assert [{name: row[name] for name in before} for row, before in zip(answered, ASKED, strict=True)] == ASKED
    assert {path.name for path in tmp_path.iterdir()} <= {"asked.jsonl", "answered.jsonl", ".answered.jsonl.lock"}
    assert [row["layers"] for row in answered if "choices" not in row] == [30] * 3  # text runs the plain chain
    for row in answered[:2]:
        name = "chosen" if "choices" in row else "plain "
        choices = ["--choices", *row["choices"]] if "choices" in row else []
        shown: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PlainConsole, "print", lambda _, text, shown=shown, **__: shown.append(str(text)))
            code, said = command(
                *("cola_learn.infer", row["question"], "--controller", str(MENU), *choices),
                *("--decoding.max_new_tokens", "6"),
            )
        assert code == 0, said
        shown = shown if "choices" in row else shown[1:]
        assert shown[:2] == [f"{name}  {row['chain']}  ({row['layers']} layers)", f"        {row['response']}"]
    code, said = command("cola_learn.infer", *arguments(tmp_path, "--controller", str(MENU)))
    assert code == 2
    assert "is there already; delete it, or choose another" in said


def test_a_killed_run_is_resumed(command: Command, tmp_path: Path) -> None:
    rows = [{"question": f"What is {number} plus {number}?"} for number in range(16)]
    asked(tmp_path, rows)
    given = arguments(tmp_path, "--chain", "0-17 20-29")
    environment = {**os.environ, "COLUMNS": "200"}
    process = subprocess.Popen([sys.executable, "-m", "cola_learn.infer", *given], env=environment)
    partial = tmp_path / "answered.jsonl.partial"
    while not partial.exists() or partial.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with partial.open("ab") as file:
        file.write(b'{"question": "What is')  # as if it had been killed while writing
    before = partial.read_bytes().splitlines()[1:5]
    code, said = command("cola_learn.infer", *given, "--decoding.temperature", "1")
    assert code == 2
    assert "was begun with other questions or settings" in said
    code, said = command("cola_learn.infer", *given)
    assert code == 0, said
    assert "of 16 questions are done already" in said
    answered = (tmp_path / "answered.jsonl").read_bytes().splitlines()
    assert [b" ".join(line.split(b" ")[1:]) for line in before] == answered[:4]
    assert [json.loads(line)["question"] for line in answered] == [row["question"] for row in rows]


def test_a_damaged_row_is_answered_again(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing behind it is taken over either; and nothing at all of another model."""
    rows = [{"question": f"What is {number} plus {number}?"} for number in range(6)]
    asked(tmp_path, rows)
    given = arguments(tmp_path, "--chain", "0-17 20-29")
    code, said = command("cola_learn.infer", *given)
    assert code == 0, said
    whole = (tmp_path / "answered.jsonl").read_bytes()
    identity = json.dumps({"identity": file_module._identity(INFER._parse("infer", given))}).encode()
    lines = [f"{file_module._seal(line)} ".encode() + line for line in whole.splitlines()]
    lines[2] = lines[2].replace(b"What is 2 plus", b"What is 3 plus")
    (tmp_path / "answered.jsonl").unlink()
    (tmp_path / "answered.jsonl.partial").write_bytes(b"\n".join([identity, *lines[:5], b""]))
    code, said = command("cola_learn.infer", *given)
    assert code == 0, said
    assert "2 of 6 questions are done already" in said
    assert (tmp_path / "answered.jsonl").read_bytes() == whole
    (tmp_path / "answered.jsonl").unlink()
    (tmp_path / "answered.jsonl.partial").write_bytes(b"\n".join([identity, *lines[:5], b""]))
    monkeypatch.setattr(file_module, "fingerprint_of", lambda name: "another")
    code, said = command("cola_learn.infer", *given)
    assert code == 2
    assert "was begun with other questions or settings" in said


def test_files_are_read_as_label_reads_them(command: Command, tmp_path: Path) -> None:
    rows = [{"premise": "It rained.", "q": "What was wet?", "a": "street", "b": "sun", "gold": "A", "note": "n n"}]
    asked(tmp_path, rows)
    layout = ("--columns", "question=premise+q,choices=a+b", "--ignore", "note")
    code, said = command("cola_learn.infer", *arguments(tmp_path, "--chain", "0-29", *layout))
    assert code == 0, said
    [row] = [json.loads(line) for line in (tmp_path / "answered.jsonl").read_text().splitlines()]
    assert {name: row[name] for name in rows[0]} == rows[0]
    assert row["response"].startswith(("street (", "sun ("))


def test_the_answer_of_an_open_question_is_no_option() -> None:
    rows = [{"question": "What is 2 plus 3?", "answer": "5"}, {"question": "What is 1 plus 1?", "answer": "2"}]
    assert [one.choices for one in read_asked(rows, "", Layout(open=True))] == [(), ()]
    rows = [{"question": "Which is a gas?", "right": "neon", "wrong1": "gold", "wrong2": "iron"}]
    columns = Layout("choices=wrong1+wrong2+right,answer=right")
    assert [one.choices for one in read_asked(rows, "", columns)] == [("gold", "iron", "neon")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 1}, "row 2: question is None; give a text"),
        ({"question": "  "}, "row 2: question is ' '; give a text"),
        ({"question": 5}, "row 2: question is 5; give a text"),
        ({"question": "Why?", "chain": "0"}, "row 2: has a column 'chain', which the output adds"),
        ({"question": "Why?", "choices": ["one"]}, "row 2: choices holds 1 option; a question needs at least two"),
        ({"question": "Why?", "choices": "one"}, "column choices is neither question, options nor answer"),
        ({"question": "Why?", "passage": "It is so."}, "column passage is neither question, options nor answer"),
    ],
)
def test_rows_that_cannot_be_asked(command: Command, tmp_path: Path, row: dict[str, Any], message: str) -> None:
    asked(tmp_path, [ASKED[0], row])
    code, said = command("cola_learn.infer", *arguments(tmp_path, "--chain", "0-29"))
    assert code == 2
    assert message in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "give a question, a file of --questions, or --chat; one of them"),
        (("Why?", "--chat"), "give a question, a file of --questions, or --chat; one of them"),
        (("--questions", "a.jsonl"), "--questions FILE and --output FILE belong together"),
        (("Why?", "--compare"), "--compare is for --chat"),
        (("--chat", "--choices", "a", "b"), "--choices is for one question"),
    ],
)
def test_ways_to_ask_that_do_not_go_together(command: Command, given: tuple[str, ...], message: str) -> None:
    code, said = command("cola_learn.infer", *given, "--chain", "0-29")
    assert code == 2
    assert message in said


def test_a_conversation(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second answer is that of a model which has read the first."""
    typed = "What is the capital of France?\nAnd of Italy?\n/reset\nAnd of Italy?\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    options = ("--chat", "--compare", "--chain", "0-17 20-29", "--decoding.max_new_tokens", "12")
    code, said = command("cola_learn.infer", *options)
    assert code == 0, said
    assert said.count(strip(Chain.parse("0-17 20-29", 30))) == 3
    assert said.count(strip(Chain.base(30))) == 3
    first, second, third = out.getvalue().split("> ")[1:4]
    assert "Paris" in first
    assert "Rome" in second
    assert second != third


def test_a_strip_shows_each_layer() -> None:
    assert strip(Chain.parse("0-1 3 (4)x3 5", 7)) == "▪▪·▪3▪·"


def test_the_plain_chain_is_run_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(PlainConsole, "print", lambda _, text, **__: shown.append(str(text)))
    choices = ("--choices", "copper", "wood")
    code, said = command("cola_learn.infer", "Which of these is a metal?", "--chain", "0-29", *choices)
    assert code == 0, said
    assert [shown[0], shown[2:]] == ["given   0-29  (30 layers)", ["plain   the same"]]
    assert shown[1].startswith("        copper (")


def test_a_controller_is_for_what_it_was_trained_on(command: Command, tmp_path: Path) -> None:
    """Free text runs chains of one of texts, options the plain chain; the other way round with one of choices."""
    asked = [{"question": "def primes(n):"}, {"question": "Which rusts?", "choices": ["iron", "gold"], "answer": 0}]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    layers = {}
    for name in ("texts", "menu"):
        controller = Controller.from_pretrained(f"checkpoints/{name}")
        controller.rule = replace(controller.rule, price=20.0)  # so that it runs few layers
        controller.save_pretrained(tmp_path / name)
        output = tmp_path / f"{name}.jsonl"
        arguments = ["--questions", tmp_path / "asked.jsonl", "--output", output, "--controller", tmp_path / name]
        code, said = command("cola_learn.infer", *arguments, "--decoding.max_new_tokens", "2")
        assert code == 0, said
        layers[name] = [json.loads(line)["layers"] for line in output.read_text().splitlines()]
    assert layers["texts"][0] < 30 == layers["texts"][1]
    assert layers["menu"][1] < 30 == layers["menu"][0]
    code, said = command(
        "cola_learn.infer", "Which rusts?", "--choices", "iron", "gold", "--controller", tmp_path / "texts"
    )
    assert code == 0, said
    assert "options are scored through the plain chain" in said
