"""Labels in other projects' formats: PoLar's and Re-PoLar's merged samples, Dr.LLM's arrays, layer counts.

PoLar (arXiv 2606.06574) and Re-PoLar (arXiv 2609.31360) keep ``merged_mcts_samples.json``, plain or gzipped: samples
with executed layer paths that are right (``final_valid_transitions``) or not (``final_invalid_transitions``), the base
chain's score, question and answer; Re-PoLar's name a question by ``sample_info.query_id``. Dr.LLM's code (arXiv
2510.12773) writes one object of parallel arrays with paths as lists of layers; its paper and README describe a chain by
how often each layer runs, 0, 1 or 2 times, which the form ``counts`` holds.

    python -m examples.peer_labels export data/labels/arc_easy-test --form polar --output merged_mcts_samples.json.gz
    python -m examples.peer_labels import merged_mcts_samples.json.gz --form polar --output runs/imported
"""

import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cola_learn.backbone.load import load_backbone
from cola_learn.chains import MOST_DEPTH, Chain
from cola_learn.command import Command, Main, run_stage, usage
from cola_learn.console import console
from cola_learn.errors import UserError
from cola_learn.files import replacing, writable_folder
from cola_learn.label.manifest import Identity, Manifest
from cola_learn.label.plan import Job, Plan
from cola_learn.label.records import Label, Trial
from cola_learn.label.store import LabelStore
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question

Form = Literal["polar", "drllm", "counts"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of export.

    Attributes:
        store: a label store.
        form: polar (merged_mcts_samples.json, with question texts), drllm (arrays with the good chains of each
            question), or counts (executions a layer as JSON lines, the chains that this can hold).
        output: file; .gz is compressed.
    """

    store: Path
    form: Form = "polar"
    output: Path = Path("merged_mcts_samples.json.gz")


@dataclass(frozen=True)
class ImportOptions:
    """Options of import.

    Attributes:
        file: labels in another form; .gz is decompressed.
        form: polar, drllm or counts, as export writes them; polar and drllm as those projects do.
        output: folder of the new label store.
        task: task of its questions.
        split: split of its questions.
        backbone: the model that the chains are for.
        device: where it is loaded, to learn its fingerprint and depth.
    """

    file: Path
    form: Form = "polar"
    output: Path = Path("runs/imported")
    task: str = "arc_easy"
    split: str = "test"
    backbone: str = "embedded"
    device: str = "auto"


UNKNOWN = math.nan
"""Margin of imported chains: other forms keep none."""


def to_polar(labels: Iterable[Label], questions: Mapping[str, Question]) -> dict[str, Any]:
    """The content of a ``merged_mcts_samples.json``.

    Args:
        labels: what to write; margins, visits and luck are lost.
        questions: by key, for the text and the right answer.
    """
    samples = []
    for label in labels:
        question = questions[label.key]
        samples.append(
            {
                "question": question.text,
                "gt_ans": str(question.choices[question.gold]),
                "initial_score": label.base.reward,
                "initial_transition_metric": label.base.reward,
                "final_valid_transitions": [list(trial.chain.layers) for trial in label.trials if trial.reward >= 1],
                "final_invalid_transitions": [list(trial.chain.layers) for trial in label.trials if trial.reward < 1],
                "sample_info": {"query_id": label.key, "choices": [str(choice) for choice in question.choices]},
            }
        )
    return {"samples": samples}


@dataclass(frozen=True)
class Imported:
    """What could be read of a file of labels.

    Attributes:
        labels: one a question, the base chain first.
        skipped: why other records could not be used, a line each.
    """

    labels: tuple[Label, ...]
    skipped: tuple[str, ...] = ()


class _Unusable(Exception):
    """Why a record cannot be used."""


def from_polar(content: Any, num_layers: int, questions: Sequence[Question]) -> Imported:
    """Labels of a ``merged_mcts_samples.json``: a list of samples, or an object with ``samples`` or of samples.

    Samples are matched with questions by ``sample_info.query_id`` (or ``query_id``, ``question_id``), else by their
    text. Those of unknown questions, without chains, or whose chains contradict each other are skipped.

    Raises:
        UserError: for content of another form.
    """
    if isinstance(content, dict):
        content = content.get("samples", list(content.values()))
    if not isinstance(content, list) or not all(isinstance(sample, dict) for sample in content):
        raise UserError("not in PoLar's form: it should be a list of samples, or an object with the field samples")
    known = _Known(questions)

    def read(sample: Mapping[str, Any]) -> Label:
        info = sample.get("sample_info") or {}
        if not isinstance(info, Mapping):
            raise _Unusable(f"sample_info is a {type(info).__name__}")
        names = [each.get(name) for each in (info, sample) for name in ("query_id", "question_id")]
        question = known.find(names, sample.get("question", info.get("question")))
        good = _chains(sample, "final_valid_transitions", num_layers, wanted=True)
        bad = _chains(sample, "final_invalid_transitions", num_layers)
        score = sample.get("initial_transition_metric", sample.get("initial_score"))
        return _label(question, num_layers, good, bad, score)

    return _collect(content, "sample", read)


def from_drllm(content: Any, num_layers: int, questions: Sequence[Question]) -> Imported:
    """Labels of a file as Dr.LLM's code writes it: one object of parallel arrays, paths as lists of layers.

    ``questions`` and ``good_paths`` or ``best_path`` are needed; ``original_correct`` is the base chain's reward, and
    ``ids``, where there are any, name the questions.

    Raises:
        UserError: for content of another form.
    """
    if not isinstance(content, dict) or not isinstance(content.get("questions"), list):
        raise UserError("not in Dr.LLM's form: it should be an object with arrays questions, best_path and good_paths")
    count = len(content["questions"])
    arrays = {name: value for name, value in content.items() if isinstance(value, list)}
    for name in ("questions", "best_path", "good_paths", "original_correct", "ids"):
        if name in arrays and len(arrays[name]) != count:
            raise UserError(
                f"array {name} has {len(arrays[name])} entries and questions {count}; they should be as many"
            )
    if not arrays.keys() & {"best_path", "good_paths"}:
        raise UserError("not in Dr.LLM's form: neither an array best_path nor one good_paths is there")
    records = [
        {name: values[place] for name, values in arrays.items() if len(values) == count} for place in range(count)
    ]
    known, base = _Known(questions), Chain.base(num_layers)

    def read(record: Mapping[str, Any]) -> Label:
        question = known.find([record.get("ids")], record["questions"])
        good = _chains(record, "good_paths", num_layers)
        if record.get("best_path"):
            best = _chain(record["best_path"], num_layers)
            if best != base or record.get("original_correct"):  # where nothing was found, the path is the model's own
                good.append(best)
        correct = record.get("original_correct")
        return _label(question, num_layers, good, [], base in good if correct is None else correct)

    return _collect(records, "question", read)


def to_drllm(labels: Iterable[Label], questions: Mapping[str, Question]) -> dict[str, list[Any]]:
    """The arrays that ``from_drllm`` reads; chains that were not good, margins and visits are lost."""
    rows = []
    for label in labels:
        good = sorted((trial.chain for trial in label.good), key=lambda chain: (chain.depth, chain.layers))
        base = label.base.chain
        rows.append(
            {
                "questions": questions[label.key].text,
                "ids": label.key,
                "best_path": list((good[0] if good else base).layers),
                "good_paths": [list(chain.layers) for chain in good],
                "original_correct": label.base.reward >= 1,
            }
        )
    names = ("questions", "ids", "best_path", "good_paths", "original_correct")
    return {name: [row[name] for row in rows] for name in names}


class _Known:
    """The questions of a task by whatever a file may call them."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._by_name = {question.id: question for question in questions}
        self._by_name |= {question.key: question for question in questions}
        self._by_text = {question.text.strip(): question for question in questions}

    def find(self, names: Sequence[Any], text: Any) -> Question:
        for name in names:
            if name is not None and str(name) in self._by_name:
                return self._by_name[str(name)]
        found = self._by_text.get(text.strip()) if isinstance(text, str) else None
        if found is None:
            called = next((str(name) for name in names if name is not None), str(text))
            raise _Unusable(f"{called[:60]!r} is no question of the task")
        return found


def _label(question: Question, num_layers: int, good: Sequence[Chain], bad: Sequence[Chain], score: Any) -> Label:
    base = Chain.base(num_layers)
    if both := set(good) & set(bad):
        raise _Unusable(f"chain {min(map(str, both))} is given as right and as wrong")
    if score is None:
        raise _Unusable("does not say whether the model itself is right")
    if isinstance(score, str) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise _Unusable(f"the model's own score is {score!r}; give 0 to 1")
    if (base in good and score < 1) or (base in bad and score >= 1):
        raise _Unusable(f"all layers in order have a score of {float(score):g} and are given as the opposite")
    rewards = {base: float(score)} | dict.fromkeys(good, 1.0) | dict.fromkeys(bad, 0.0)
    return Label(
        *(question.task, question.split, question.id),
        tuple(Trial(chain, reward, UNKNOWN, 1) for chain, reward in rewards.items()),
        digest=question.digest,
    )


def _collect(records: Sequence[Mapping[str, Any]], kind: str, read: Callable[[Mapping[str, Any]], Label]) -> Imported:
    labels: dict[str, Label] = {}
    skipped = []
    for number, record in enumerate(records):
        try:
            label = read(record)
            if label.key in labels:
                raise _Unusable(f"question {label.key} is there before")
            labels[label.key] = label
        except (_Unusable, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = f"has no field {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            skipped.append(f"{kind} {number}: {reason}")
    if not labels:
        first = f"; {skipped[0]}" if skipped else ""
        raise UserError(f"none of its {len(records)} records can be used{first}; name its --task and --split")
    return Imported(tuple(labels.values()), tuple(skipped))


def _chains(record: Mapping[str, Any], name: str, num_layers: int, wanted: bool = False) -> list[Chain]:
    paths = record[name] if wanted else record.get(name) or []
    if not isinstance(paths, list | tuple):
        raise _Unusable(f"{name} is a {type(paths).__name__}; give a list of paths")
    return [_chain(path, num_layers) for path in paths]


def to_counts(chain: Chain) -> list[int] | None:
    """How often each layer runs, as Dr.LLM writes chains; None if one runs more than twice, or apart from itself."""
    runs = Counter(chain.layers)
    counts = [runs[layer] for layer in range(chain.num_layers)]
    return counts if max(counts) <= 2 and from_counts(counts) == chain else None


def from_counts(counts: Sequence[int]) -> Chain:
    """The chain that runs each layer so often, one after the other.

    Raises:
        ValueError: if no layer runs, or one a negative number of times.
    """
    if sum(counts) > MOST_DEPTH * len(counts):
        raise ValueError(f"counts run {sum(counts)} layers; at most {MOST_DEPTH} times the {len(counts)} are read")
    if min(counts, default=-1) < 0:
        raise ValueError(f"counts {list(counts)} should say for every layer how often it runs, 0 or more")
    return Chain(tuple(layer for layer, runs in enumerate(counts) for _ in range(runs)), len(counts))


def to_count_rows(labels: Iterable[Label]) -> Iterator[dict[str, Any]]:
    """A row for every chain that counts can hold: question, executions a layer, reward."""
    for label in labels:
        for trial in label.trials:
            counts = to_counts(trial.chain)
            if counts is not None:
                yield {**_name(label), "counts": counts, "reward": trial.reward}


def from_count_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[Label]:
    """Labels of rows as ``to_count_rows`` writes them; the base chain is put first.

    Raises:
        UserError: naming a row that cannot be read.
    """
    found: dict[tuple[str, str, str], dict[Chain, float]] = {}
    for number, row in enumerate(rows):
        try:
            name = (str(row["task"]), str(row["split"]), str(row["id"]))
            found.setdefault(name, {})[from_counts(row["counts"])] = float(row["reward"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"row {number}: {error!r}; rows have task, split, id, counts and reward") from None
    for name, rewards in found.items():
        base = Chain.base(next(iter(rewards)).num_layers)
        ordered = [base, *(chain for chain in rewards if chain != base)]
        yield Label(*name, tuple(Trial(chain, rewards.get(chain, 0.0), UNKNOWN, 1) for chain in ordered))


def read_json(file: Path, lines: bool = False) -> Any:
    """A JSON file, plain or ``.gz``; with ``lines`` a list of its rows.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8")
        return [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    except (OSError, ValueError, EOFError, RecursionError, zlib.error) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from None


def write_json(file: Path, content: Any, lines: bool = False) -> int:
    """Write JSON, or rows of it as lines, whole or not at all; ``.gz`` is compressed. Returns the number of rows.

    Raises:
        UserError: if it cannot be written.
    """
    rows = 0
    with (
        replacing(file) as scratch,
        gzip.open(scratch, "wt", encoding="utf-8") if file.suffix == ".gz" else scratch.open("w") as out,
    ):
        for row in content if lines else [content]:
            out.write(json.dumps(row) + "\n")
            rows += 1
    return rows


def _name(label: Label) -> dict[str, str]:
    return {"task": label.task, "split": label.split, "id": label.id}


def _chain(path: Any, num_layers: int) -> Chain:
    if not isinstance(path, list | tuple) or not path:
        raise _Unusable(f"path {path!r} is no list of layers"[:100])
    if len(path) > MOST_DEPTH * num_layers:
        raise _Unusable(f"a path runs {len(path)} layers; at most {MOST_DEPTH} times the {num_layers} are read")
    if any(isinstance(layer, bool) or int(layer) != layer for layer in path):
        raise _Unusable(f"path {str(path)[:60]} holds what is no layer")
    return Chain(tuple(int(layer) for layer in path), num_layers)


def run_export(options: ExportOptions) -> int:
    """Write a store's labels in another form; returns the number of samples or rows.

    Raises:
        UserError: if the store cannot be read or the file cannot be written.
    """
    store = LabelStore.open(options.store, "store")
    if options.form in ("polar", "drllm"):
        questions = store.questions("store")
        content = to_polar(store, questions) if options.form == "polar" else to_drllm(store, questions)
        write_json(options.output, content)
        count, things = len(next(iter(content.values()))), "questions"
    else:
        count, things = write_json(options.output, to_count_rows(store), lines=True), "chains"
    console.print(f"{count} {things} written to {options.output}", soft_wrap=True)
    return count


def run_import(options: ImportOptions) -> LabelStore:
    """Make a label store of labels in another form; margins are unknown there, and stay so (NaN).

    Raises:
        UserError: naming what in the file cannot be used.
    """
    questions = load_task(options.task, options.split)
    content = read_json(options.file, lines=options.form == "counts")
    writable_folder(options.output)
    identity = Identity.of(load_backbone(options.backbone, options.device))
    try:
        found = _imported(options, content, identity.num_layers, questions)
    except UserError as error:
        raise UserError(f"{options.file}: {error}") from None
    labels = found.labels
    for line in found.skipped[:_SHOWN]:
        console.print(f"skipped     {line}", soft_wrap=True)
    if found.skipped:
        console.print(f"{len(found.skipped)} of {len(found.skipped) + len(labels)} records skipped")
    job = Job(options.backbone, Scoring(reward="choices").of(questions), Plan(luck=False, neighbours=0))
    manifest = Manifest.of(identity, job, options.task, questions[0])
    manifest = replace(manifest, plan=replace(manifest.plan, method="imported", settings={"form": options.form}))
    store = LabelStore.create(options.output, manifest)
    with store.writing():
        known = store.keys()
        store.keep(question for question in questions if question.key in {label.key for label in labels})
        store.append([label for label in labels if label.key not in known])
        store.compact(sorted({label.key for label in labels} | known))
    console.print(f"labels      {options.output} ({len(labels)} questions)", soft_wrap=True)
    return store


_SHOWN = 20  # skipped records that are told one by one


def _imported(options: ImportOptions, content: Any, num_layers: int, questions: list[Question]) -> Imported:
    if options.form == "polar":
        return from_polar(content, num_layers, questions)
    if options.form == "drllm":
        return from_drllm(content, num_layers, questions)
    known = {question.key for question in questions}
    labels, skipped = [], []
    for label in from_count_rows(content):
        if label.base.chain.num_layers != num_layers:
            skipped.append(f"question {label.key}: chains of {label.base.chain.num_layers} layers, not {num_layers}")
        elif label.key not in known:
            skipped.append(f"question {label.key} is not in task {options.task} {options.split}")
        else:
            labels.append(label)
    if not labels:
        raise UserError(f"none of its questions can be used; {skipped[0] if skipped else 'it has no rows'}")
    return Imported(tuple(labels), tuple(skipped))


COMMANDS: dict[str, Main] = {
    "export": Command(ExportOptions, run_export, "Write labels in another project's form.", ("store",)),
    "import": Command(ImportOptions, run_import, "Make a label store of another project's labels.", ("file",)),
}

if __name__ == "__main__":
    run_stage("examples.peer_labels", usage(COMMANDS), COMMANDS)
