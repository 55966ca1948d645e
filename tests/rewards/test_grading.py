import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cola_learn.rewards.grading import Grader
from cola_learn.tasks.answers import boxed


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    grader = Grader(seconds=3)
    yield grader
    grader.close()


GRADED = [
    ("7", "7", True),
    ("so it is \\boxed{7.0}.", "7", True),
    ("\\frac{2}{4}", "1/2", True),
    ("\\sqrt{8}", "2\\sqrt{2}", True),
    ("8 + 3 = 11", "11", True),
    ("x=3", "3", True),
    ("50", "50\\%", True),
    ("", "7", False),
    ("8", "7", False),
    ("-7", "7", False),
    # equal, but nobody worked it out: the model may only have repeated the question
    ("8 + 3", "11", False),
    ("8-4 \\div 2-1", "5", False),
    ("2 \\times 3", "6", False),
    ("115^2", "13225", False),
    ("2^{10}", "1024", False),
    ("(2+3)\\cdot 4", "20", False),
    ("2 + \\frac{1}{2}", "\\frac{5}{2}", False),
    ("1/2+1/3", "5/6", False),
    ("\\left(1+2\\right)+3", "6", False),
    ("3 + \\sqrt{16}", "7", False),
    ("x=8+3", "11", False),
    # where the answer itself is such a form, it is one
    ("2 \\times 10^{3}", "2 \\times 10^{3}", True),
    ("2^{11}", "2^{11}", True),
    ("30^{\\circ}", "30", True),
    # a sum that has letters or roots in it has nothing to be worked out
    ("x^2+1", "1+x^2", True),
    ("1+x^2", "x^2+1", True),
    ("x^2+2", "1+x^2", False),
    ("2x+3y", "3y+2x", True),
    ("(x+1)^2", "x^2+2x+1", True),
    ("(x-1)^2", "x^2+2x+1", False),
    ("3x^2-2", "-2+3x^2", True),
    ("1+\\sqrt{3}", "\\sqrt{3}+1", True),
    ("1-\\sqrt{3}", "\\sqrt{3}+1", False),
    ("\\pi+1", "1+\\pi", True),
    ("2^{n}+1", "1+2^{n}", True),
    ("a^2-b^2", "(a+b)(a-b)", True),
    ("a^2+b^2", "(a+b)(a-b)", False),
    # floats run out: large powers, tiny numbers, long integers
    ("\\frac{1}{2^{98}}", "\\frac{1}{2^{99}}", False),
    ("\\frac{1}{2^{99}}", "\\frac{1}{2^{99}}", True),
    ("\\frac{2}{2^{100}}", "\\frac{1}{2^{99}}", True),
    ("2^{-99}", "\\frac{1}{2^{99}}", True),
    ("2^{-98}", "\\frac{1}{2^{99}}", False),
    ("\\frac{1}{3^{50}}", "\\frac{1}{3^{51}}", False),
    ("1-\\frac{1}{2^{99}}", "1-\\frac{1}{2^{98}}", False),
    ("100000000000000000001", "100000000000000000000", False),
    ("100000000000000000000", "100000000000000000000", True),
    ("\\frac{10^{30}+1}{10^{30}}", "1+\\frac{1}{10^{31}}", False),
    ("(2^{-98}, 1)", "(2^{-99}, 1)", False),
    ("(2^{-99}, 1)", "(\\frac{1}{2^{99}}, 1)", True),
    # numbers in their spellings
    ("0.5", "\\frac{1}{2}", True),
    (".5", "1/2", True),
    ("0.33", "\\frac{1}{3}", False),
    ("1,000", "1000", True),
    ("1000", "1,000", True),
    ("-\\frac{3}{4}", "-0.75", True),
    ("\\frac{-3}{4}", "-\\frac{3}{4}", True),
    ("\\dfrac{3}{4}", "\\frac{3}{4}", True),
    ("12 \\text{ cm}", "12", True),
    ("\\$12", "12", True),
    ("12", "12\\text{ dollars}", True),
    ("13 \\text{ cm}", "12", False),
    ("3:4", "4:3", False),
    # more than one number
    ("(3, 4)", "(3,4)", True),
    ("(4, 3)", "(3,4)", False),
    ("3, 4", "4, 3", True),
    ("[0, 1)", "[0,1)", True),
    ("(0, 1)", "[0,1)", False),
    ("[0, 1]", "[0,2]", False),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", True),
    ("\\begin{pmatrix} 2 \\\\ 1 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", False),
    # words
    ("\\text{Tuesday}", "Tuesday", True),
    ("Monday", "\\text{Tuesday}", False),
]


def test_the_table_is_long_enough() -> None:
    assert len(GRADED) >= 60


@pytest.mark.parametrize(("text", "gold", "right"), GRADED)
def test_grades(grader: Grader, text: str, gold: str, right: bool) -> None:
    assert grader.grade(text, gold).right is right


def test_boxes_that_are_never_closed_are_read_at_once() -> None:
    """A model that repeats itself writes thousands; finding the last whole one takes one pass."""
    assert boxed("\\boxed{" * 20_000) is None
    assert boxed("\\boxed{7}" + "\\boxed{" * 20_000) == "7"


def test_what_hangs_is_wrong_with_a_reason_and_the_next_answer_is_graded() -> None:
    grader = Grader(seconds=1)
    hung = grader.grade("(9)^{(9)^{(9)^9}}", "x+3")
    assert not hung.right
    assert "1 s" in hung.reason
    assert grader.failures.total() == 1
    assert grader.grade("\\frac{6}{2}", "3").right
    grader.close()


@pytest.mark.parametrize("strings", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_odd_strings_never_stop_it(strings: int, grader: Grader) -> None:
    """Pieces of what models write, put together without sense; the grader answers every time."""
    chance = random.Random(0)
    pieces = [
        *"0123456789+-*/^_=(){}[]<>|,.;:!?$%&#@~ \\\n\t\"'",
        *("\\frac", "\\sqrt", "\\boxed{", "\\text{", "\\left(", "\\right)", "\\begin{pmatrix}", "\\end{pmatrix}"),
        *("\\int", "\\sum", "\\infty", "\\pi", "^{", "_{", "}{", "\\cup", "\\in", "[0,1)", "x", "y", "abc", "\\%"),
        *("1e9", "0.5", "é", "π", "½", "\ud800", "\x00", "∞", "\\u0000", "None", "__import__('os')", "lambda: 0"),
    ]
    for _ in range(strings):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 9)))
        grade = grader.grade(text, chance.choice(["7", "\\frac{1}{2}", "(3,4)"]))
        assert isinstance(grade.right, bool)
        assert not (grade.right and grade.reason)
    assert grader.grade("\\frac{14}{2}", "7").right


def test_a_grader_left_alone_with_an_answer_that_hangs_ends(tmp_path: Path) -> None:
    """Its parent is killed while it waits, as a worker process may be; nothing may go on for ever."""
    program = tmp_path / "parent.py"
    program.write_text(
        "from cola_learn.rewards.grading import Grader\n"
        "if __name__ == '__main__':\n"
        "    grader = Grader(seconds=2)\n"
        "    grader.grade('3', '4')\n"
        "    print(grader._child[0].pid, flush=True)\n"
        "    grader.grade('(9)^{(9)^{(9)^9}}', 'x+3')\n"
    )
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    assert child.is_running()
    child.wait(timeout=30)


def test_a_grader_that_starts_does_not_hear_ctrl_c(tmp_path: Path) -> None:
    """A terminal interrupts every process; it is for the parent to end, without a traceback of the child's."""
    program = tmp_path / "parent.py"
    program.write_text(
        "from cola_learn.rewards.grading import Grader\n"
        "if __name__ == '__main__':\n"
        "    print(Grader().grade('4/2', '2').right)\n"
    )
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while parent.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(parent.pid).children():
                child.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert parent.communicate() == ("True\n", "")
