"""Grading written answers with math-verify, in a process of its own.

What a model writes can be anything. Reading it as mathematics may raise, fill the memory or not come to an end, and
none of that can be stopped for sure in the process that it happens in. So a child does it, under limits, and is
replaced when it fails.
"""

import contextlib
import multiprocessing
import re
import resource
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from cola_learn.errors import UserError
from cola_learn.tasks.answers import boxed, spellings

LONGEST_ANSWER = 400  # characters; longer is no short answer
_MEMORY = 4 * 2**30
_OPERATION = re.compile(r"[\d})]\s*([-+*×÷^]|\\times|\\cdot|\\div)\s*[({]*-?(\d|\\[dt]?frac|\\sqrt)")
_COMMANDS = re.compile(r"\\(times|cdot|div|[dt]?frac|sqrt|left|right|text|mbox|mathrm|circ|pi|quad|[,;:! ])")
_NUMBER = re.compile(r"-?(\d[\d,]*\.?\d*|\.\d+|\d+/\d+|\\[dt]?frac\{\d+\}\{\d+\})")
_CLOSE = 1e-4  # nearer than this, numbers are compared exactly


@dataclass(frozen=True)
class Grade:
    """A verdict on one answer; where none could be reached it counts as wrong and ``reason`` says why."""

    right: bool
    reason: str = ""


class Grader:
    """Grades texts against gold answers; every pair once.

    Args:
        seconds: how long one answer may take.

    Attributes:
        failures: how many answers could not be graded, by reason.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        self.failures: Counter[str] = Counter()
        self._seconds = seconds
        self._known: dict[tuple[str, str], Grade] = {}
        self._child: tuple[SpawnProcess, Connection] | None = None

    def grade(self, text: str, gold: str) -> Grade:
        r"""Whether the last ``\boxed{}`` of a text, or the whole text without one, is the gold answer.

        One of the gold answer's ``spellings`` is right as it stands; anything else
        goes to math-verify, unless it is a sum, product or power of numbers where the gold answer is one number: that
        is a question, not an answer.
        """
        inside = boxed(text)
        answer = (text if inside is None else inside).strip()
        if answer in spellings(gold):
            return Grade(True)
        key = (answer, gold)
        if key not in self._known:
            self._known[key] = self._judge(answer, gold)
            if self._known[key].reason:
                self.failures[self._known[key].reason] += 1
        return self._known[key]

    def close(self) -> None:
        """End the child."""
        if self._child:
            process, connection = self._child
            connection.close()
            process.kill()
            process.join()
            self._child = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _judge(self, answer: str, gold: str) -> Grade:
        if not answer or (_is_number(gold) and not _worked_out(answer)):
            return Grade(False)
        if len(answer) > LONGEST_ANSWER:
            return Grade(False, f"longer than {LONGEST_ANSWER} characters")
        try:
            connection = self._connection()
            connection.send((answer.encode("utf-8", "replace").decode(), gold))
            if connection.poll(self._seconds):
                return Grade(*connection.recv())
            reason = f"took more than {self._seconds:g} s"
        except (EOFError, OSError):
            reason = "the grader died"
        self.close()
        return Grade(False, reason)

    def _connection(self) -> Connection:
        if self._child is None:
            if find_spec("math_verify") is None:
                raise UserError("formulas are graded by math-verify; pip install 'cola-learn[math]'")
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._seconds), daemon=True)
            with _deaf_to_interrupts():
                process.start()
            theirs.close()
            self._child = process, ours
            ours.recv()  # its imports take a second or two, which no answer should be charged with
        return self._child[1]


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A child that is started now does not hear Ctrl-C, which is for its parent, not even while it imports."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def _is_number(answer: str) -> bool:
    """Whether an answer is one number, in any of its spellings."""
    return any(_NUMBER.fullmatch(text) for text in spellings(answer))


def _worked_out(answer: str) -> bool:
    """Whether nothing is left to reckon between numbers; ``8 + 3 = 11`` is worked out, ``x^2 + 1`` need not be."""
    last = answer.rsplit("=", 1)[-1]
    letters = re.search(r"[a-zA-Z]", _COMMANDS.sub("", last))
    return bool(letters) or not _OPERATION.search(re.sub(r"\\left|\\right", "", last))


def _serve(connection: Connection, seconds: float) -> None:
    import logging

    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
    from sympy import Basic, Expr, Float

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for one that a thread has started
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    connection.send("ready")
    configs = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())

    def same(one: Any, other: Any) -> bool:
        """Whether no two numbers that stand at the same place differ by less than floats tell apart."""
        if isinstance(one, Basic) and isinstance(other, Basic) and not (one.is_number and other.is_number):
            pairs = zip(one.args, other.args, strict=False)
            return (
                type(one) is not type(other) or len(one.args) != len(other.args) or all(same(*pair) for pair in pairs)
            )
        if not isinstance(one, Expr) or not isinstance(other, Expr) or one.has(Float) or other.has(Float):
            return True
        difference = (one - other).doit()
        if difference.equals(0) is not False:
            return True
        scale = max(1, abs(one.evalf(30)), abs(other.evalf(30)))
        return bool(abs(difference.evalf(30)) > _CLOSE * scale)

    def exactly(golds: list[Any], answers: list[Any]) -> bool:
        """Compared exactly where floats run out: math-verify takes 1/2^98 for 1/2^99."""
        return not golds or not answers or same(golds[0], answers[0])

    def read(text: str) -> list[Any]:
        found = parse(f"\\boxed{{{text}}}", configs, parsing_timeout=None, raise_on_error=True)
        return found or parse(text, configs, parsing_timeout=None, raise_on_error=True)

    while True:
        try:
            answer, gold = connection.recv()
        except EOFError:
            return
        signal.alarm(int(seconds) + 2)  # ends this process, should its parent be gone by then
        try:
            golds, answers = read(gold), read(answer)
            right = verify(golds, answers, timeout_seconds=None, raise_on_error=True)
            verdict = (bool(right) and exactly(golds, answers), "")
        except (Exception, MemoryError) as error:
            verdict = (False, type(error).__name__)
        signal.alarm(0)
        connection.send(verdict)
