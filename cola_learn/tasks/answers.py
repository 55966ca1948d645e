"""Short answers: the spellings of an answer, and wrong answers of the same shape for the luck control."""

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from cola_learn.tasks.questions import Question

MOST_SPELLINGS = 12
ENDS_WORD = r"\s${}\\"  # in a class of characters: what no word behind a \boxed without braces goes on with
_SPACES = re.compile(r"\\[,!;: ]|~|\s+")
_UNITS = re.compile(r"(\\(text|mbox|mathrm)\{[^{}]*\}|\^\{?\\circ\}?|\\?%)+$")
_THOUSANDS = re.compile(r"(?<=\d)(,|\{,\})(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"\\frac\{(\d+)\}\{(\d+)\}")
_RATIO = re.compile(r"(?<![\d./])(\d+)/(\d+)(?![\d./])")
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)")


def boxed(text: str) -> str | None:
    r"""What the last ``\boxed{...}`` (or ``\fbox{...}``) holds, braces matched; else the word behind a ``\boxed``
    without braces; None without either.
    """
    closed: dict[int, int] = {}
    waiting: list[int] = []
    for brace in re.finditer(r"[{}]", text):
        if brace[0] == "{":
            waiting.append(brace.end())
        elif waiting:
            closed[waiting.pop()] = brace.start()
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))):
        if match.end() in closed:
            return text[match.end() : closed[match.end()]].strip()
    bare = re.findall(rf"\\boxed\s+([^{ENDS_WORD}]+)", text)
    return bare[-1].rstrip(".,;:") or None if bare else None


@lru_cache(maxsize=65536)
def spellings(answer: str) -> tuple[str, ...]:
    r"""Ways to write an answer, the given one (tidied) first: at most ``MOST_SPELLINGS``, none twice.

    ``$`` and a full stop at the end fall away; so do ``\left``, ``\right`` and spaces of LaTeX. Then, each on its own
    and together: without units (``\text{ cm}``, ``^\circ``, ``\%``), without ``x=`` or ``x\in``, words out of
    ``\text{}``, ``\dfrac`` as ``\frac``, ``\frac{1}{2}`` as ``1/2`` and back and as a decimal where that ends within
    three places, ``1,000`` as ``1000`` and back, ``.5`` as ``0.5``, and a space behind commas or none.
    """
    first = _tidy(answer)
    found = dict.fromkeys([first])
    for rule in (_without_name, _without_units, _plain_words, _frac, _ratio, _as_frac, _decimal, _number, _thousands):
        for text in list(found):
            found.update(dict.fromkeys(rule(text)))
    for text in list(found):
        if "," in text and not _THOUSANDS.search(text):
            found[re.sub(r",\s*", ", ", text)] = None
            found[re.sub(r",\s*", ",", text)] = None
    return tuple(text for text in found if text)[:MOST_SPELLINGS]


def _tidy(answer: str) -> str:
    text = answer.rstrip(" \n.$").lstrip(" \n$")
    text = re.sub(r"\\(left|right)(?![a-zA-Z])", "", text.replace(r"\$", "").replace(r"\!", ""))
    return re.sub(r"\\[td]frac", r"\\frac", re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text))


def _without_name(text: str) -> list[str]:
    return [re.sub(r"^[a-zA-Z]\s*(=|\\in)\s*", "", text)]


def _without_units(text: str) -> list[str]:
    bare = _UNITS.sub("", text).strip()
    return [bare] if bare else []


def _plain_words(text: str) -> list[str]:
    return [re.sub(r"\\(text|mbox|mathrm|textbf)\{([^{}]*)\}", r"\2", text).strip()]


def _frac(text: str) -> list[str]:
    return [_SPACES.sub("", text)] if "\\" in text and not re.search(r"\\[a-zA-Z]+ [a-zA-Z]", text) else []


def _ratio(text: str) -> list[str]:
    return [_FRACTION.sub(r"\1/\2", text)]


def _as_frac(text: str) -> list[str]:
    return [_RATIO.sub(r"\\frac{\1}{\2}", text)]


def _decimal(text: str) -> list[str]:
    match = re.fullmatch(r"(-?)(\d+)/(\d+)", text)
    if not match or not int(match[3]):
        return []
    value = Fraction(int(match[2]), int(match[3]))
    short = f"{float(value):.3f}".rstrip("0").rstrip(".")
    return [match[1] + short] if Fraction(short) == value else []


def _number(text: str) -> list[str]:
    if not _NUMBER.fullmatch(text):
        return []
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    return [sign + ("0" + digits if digits.startswith(".") else digits).removesuffix(".")]


def _thousands(text: str) -> list[str]:
    plain = _THOUSANDS.sub("", text)
    return [plain, f"{int(plain):,}"] if re.fullmatch(r"-?\d{4,15}", plain) else []


def with_decoys(questions: Sequence[Question]) -> list[Question]:
    """Open questions with a second answer, a wrong one for the luck control: another question's answer of the same
    shape (digits apart), else the answer with its digits drawn anew, else any other question's answer.

    Which one depends on the question and the whole task, so pass all of it.
    """
    by_shape: defaultdict[str, set[str]] = defaultdict(set)
    for question in questions:
        by_shape[_shape(question.choices[0])].add(question.choices[0])
    pools = {shape: sorted(answers) for shape, answers in by_shape.items()}
    everything = sorted({question.choices[0] for question in questions})
    return [
        replace(question, choices=(question.choices[0], _decoy(question, pools, everything))) for question in questions
    ]


def _shape(answer: str) -> str:
    return re.sub(r"\d", "0", answer)


def _decoy(question: Question, pools: dict[str, list[str]], everything: list[str]) -> str:
    answer = question.choices[0]
    same = set(spellings(answer))
    chance = random.Random(f"decoy/{question.key}")

    def other(pool: Sequence[str]) -> str | None:
        left = [text for text in pool if same.isdisjoint(spellings(text))]
        return chance.choice(left) if left else None

    redrawn = [re.sub(r"\d", lambda _: str(chance.randint(1, 9)), answer) for _ in range(8)]
    found = other(pools[_shape(answer)]) or other(redrawn) or other(everything)
    return found if found is not None else answer + "0"
