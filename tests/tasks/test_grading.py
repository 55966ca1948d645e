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

from cola_learn.tasks.grading import Grader


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    grader = Grader(seconds=3)
    yield grader
    grader.close()


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
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
        # where the answer itself is such a form, it is one
        ("2 \\times 10^{3}", "2 \\times 10^{3}", True),
        ("2^{11}", "2^{11}", True),
        ("30^{\\circ}", "30", True),
    ],
)
def test_grades(grader: Grader, text: str, gold: str, right: bool) -> None:
    assert grader.grade(text, gold).right is right


def test_what_hangs_is_wrong_with_a_reason_and_the_next_answer_is_graded() -> None:
    grader = Grader(seconds=1)
    hung = grader.grade("(9)^{(9)^{(9)^9}}", "3")
    assert not hung.right
    assert "1 s" in hung.reason
    assert grader.failures.total() == 1
    assert grader.grade("\\frac{6}{2}", "3").right
    grader.close()


def test_ten_thousand_odd_strings_never_stop_it(grader: Grader) -> None:
    """Pieces of what models write, put together without sense; the grader answers every time."""
    chance = random.Random(0)
    pieces = [
        *"0123456789+-*/^_=(){}[]<>|,.;:!?$%&#@~ \\\n\t\"'",
        *("\\frac", "\\sqrt", "\\boxed{", "\\text{", "\\left(", "\\right)", "\\begin{pmatrix}", "\\end{pmatrix}"),
        *("\\int", "\\sum", "\\infty", "\\pi", "^{", "_{", "}{", "\\cup", "\\in", "[0,1)", "x", "y", "abc", "\\%"),
        *("1e9", "0.5", "é", "π", "½", "\ud800", "\x00", "∞", "\\u0000", "None", "__import__('os')", "lambda: 0"),
    ]
    for _ in range(10_000):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 9)))
        grade = grader.grade(text, chance.choice(["7", "\\frac{1}{2}", "(3,4)"]))
        assert isinstance(grade.right, bool)
        assert not (grade.right and grade.reason)
    assert grader.grade("\\frac{14}{2}", "7").right


def test_a_grader_left_alone_with_an_answer_that_hangs_ends(tmp_path: Path) -> None:
    """Its parent is killed while it waits, as a worker process may be; nothing may go on for ever."""
    program = tmp_path / "parent.py"
    program.write_text(
        "from cola_learn.tasks.grading import Grader\n"
        "if __name__ == '__main__':\n"
        "    grader = Grader(seconds=2)\n"
        "    grader.grade('3', '4')\n"
        "    print(grader._child[0].pid, flush=True)\n"
        "    grader.grade('(9)^{(9)^{(9)^9}}', '3')\n"
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
        "from cola_learn.tasks.grading import Grader\n"
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
