"""Labels in other projects' forms: PoLar's and Re-PoLar's merged samples, Dr.LLM's executions a layer, JSON lines.

PoLar (arXiv 2606.06574) and Re-PoLar (arXiv 2609.31360) keep ``merged_mcts_samples.json``, plain or gzipped: samples
with executed layer paths that are right (``final_valid_transitions``) or not (``final_invalid_transitions``), the base
chain's score, question and answer. Dr.LLM (arXiv 2510.12773) describes a chain by how often each layer runs: 0, 1 or
2 times.
"""

import gzip
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cola_learn.chains import Chain
from cola_learn.cli import UserError
from cola_learn.label.records import Label, Trial
from cola_learn.tasks import Question

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


def from_polar(content: Any, num_layers: int, questions: Sequence[Question]) -> Iterator[Label]:
    """Labels of a ``merged_mcts_samples.json``: a list of samples, or an object with ``samples`` or of samples.

    Samples are matched with questions by ``sample_info.query_id``, else by their text.

    Raises:
        UserError: for content of another form, a chain that the backbone cannot run, or an unknown question.
    """
    if isinstance(content, dict):
        content = content.get("samples", list(content.values()))
    if not isinstance(content, list) or not all(isinstance(sample, dict) for sample in content):
        raise UserError("not in PoLar's form: it should be a list of samples, or an object with the field samples")
    by_name = {question.text.strip(): question for question in questions} | {q.key: q for q in questions}
    base = Chain.base(num_layers)
    for number, sample in enumerate(content):
        info = sample.get("sample_info") or {}
        text = str(sample.get("question", info.get("question", ""))).strip()
        question = by_name.get(str(info.get("query_id"))) or by_name.get(text)
        if question is None:
            raise UserError(
                f"sample {number} ({text[:60]!r}) is no question of the task; name another --task or --split"
            )
        try:
            good = [_chain(path, num_layers) for path in sample["final_valid_transitions"]]
            bad = [_chain(path, num_layers) for path in sample.get("final_invalid_transitions", [])]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"sample {number} ({text[:60]!r}): {error!r} in its transitions") from None
        score = sample.get("initial_transition_metric", sample.get("initial_score"))
        rewards = dict.fromkeys(bad, 0.0) | dict.fromkeys(good, 1.0)
        rewards.setdefault(base, float(score or 0.0))
        ordered = [base, *(chain for chain in (*good, *bad) if chain != base)]
        trials = tuple(Trial(chain, rewards[chain], UNKNOWN, 1) for chain in dict.fromkeys(ordered))
        yield Label(question.task, question.split, question.id, trials)


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
    if min(counts, default=-1) < 0:
        raise ValueError(f"counts {list(counts)} should say for every layer how often it runs, 0 or more")
    return Chain(tuple(layer for layer, runs in enumerate(counts) for _ in range(runs)), len(counts))


def to_drllm(labels: Iterable[Label]) -> Iterator[dict[str, Any]]:
    """A row for every chain that Dr.LLM's form can hold: question, executions a layer, reward."""
    for label in labels:
        for trial in label.trials:
            counts = to_counts(trial.chain)
            if counts is not None:
                yield {**_name(label), "counts": counts, "reward": trial.reward}


def from_drllm(rows: Iterable[Mapping[str, Any]]) -> Iterator[Label]:
    """Labels of rows as :func:`to_drllm` writes them; the base chain is put first.

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


def to_lines(labels: Iterable[Label]) -> Iterator[dict[str, Any]]:
    """A row for every chain of every label, with all that is known of it."""
    for label in labels:
        for trial in label.trials:
            yield {
                **_name(label),
                "chain": str(trial.chain),
                "layers": list(trial.chain.layers),
                "depth": trial.chain.depth,
                "reward": trial.reward,
                "margin": trial.margin,
                "visits": trial.visits,
                "neighbours": trial.neighbours,
                "neighbours_good": trial.neighbours_good,
            }


def read_json(file: Path, lines: bool = False) -> Any:
    """A JSON file, plain or ``.gz``; with ``lines`` a list of its rows.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8")
        return [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from None


def write_json(file: Path, content: Any, lines: bool = False) -> int:
    """Write JSON, or rows of it as lines, whole or not at all; ``.gz`` is compressed. Returns the number of rows.

    Raises:
        UserError: if it cannot be written.
    """
    scratch = file.with_name(f".{file.name}.tmp")
    rows = 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(scratch, "wt", encoding="utf-8") if file.suffix == ".gz" else scratch.open("w") as out:
            for row in content if lines else [content]:
                out.write(json.dumps(row) + "\n")
                rows += 1
        os.replace(scratch, file)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from None
    return rows


def _name(label: Label) -> dict[str, str]:
    return {"task": label.task, "split": label.split, "id": label.id}


def _chain(path: Sequence[Any], num_layers: int) -> Chain:
    return Chain(tuple(int(layer) for layer in path), num_layers)
