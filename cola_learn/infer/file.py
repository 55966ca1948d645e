"""Answering a file of questions: batched, and resumed where it was stopped."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cola_learn.backbone.generate import Generator
from cola_learn.command import settings_of
from cola_learn.console import console, progress_bar
from cola_learn.errors import UserError
from cola_learn.files import digest, locked, replacing, writable_folder
from cola_learn.infer.chooser import Chooser, make_chooser, pick, write
from cola_learn.infer.options import InferOptions
from cola_learn.tasks.files import read_rows

ADDED = ("chain", "layers", "response")
_SHOWN = 5  # chains in the summary


def answer_file(options: InferOptions) -> None:
    """Write every row of a file with the chain chosen for its question, its depth, and the response.

    What is finished lies in ``OUTPUT.partial``, whose first line is a digest of all that answers depend on.

    Raises:
        UserError: if the file cannot be read, a row has no question, or the output is there or another run's.
    """
    assert options.questions is not None
    assert options.output is not None
    if options.output.exists():
        raise UserError(f"--output {options.output} is there already; delete it, or choose another")
    rows = read_rows(str(options.questions), "")[0]
    for number, row in enumerate(rows, start=1):
        _check(row, f"--questions {options.questions}: row {number}")
    folder, name = writable_folder(options.output.parent), options.output.name
    partial = folder / f"{name}.partial"
    with locked(folder, f".{name}.lock"):
        done = _resumed(partial, _identity(options), options)
        if done:
            console.print(f"{done} of {len(rows)} questions are done already")
        chooser = make_chooser(options)
        generator = Generator(chooser.backbone)
        with progress_bar() as bar, partial.open("a", encoding="utf-8") as file:
            task = bar.add_task("questions", total=len(rows), completed=done, unit="questions", note="")
            for start in range(done, len(rows), options.batch):
                some = rows[start : start + options.batch]
                for row in _answered(some, chooser, generator, options, start):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
                bar.advance(task, len(some))
        answered = partial.read_bytes().partition(b"\n")[2]
        with replacing(options.output) as path:
            path.write_bytes(answered)
        partial.unlink()
    _summarize([json.loads(line) for line in answered.splitlines()], chooser.backbone.num_layers)
    console.print(f"answers     {options.output}", soft_wrap=True)


def _check(row: Any, where: str) -> None:
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        raise UserError(f"{where} has no text in a column 'question'")
    if (taken := [name for name in ADDED if name in row]) != []:
        raise UserError(f"{where} has a column {taken[0]!r} already, which the output adds; rename it")
    choices = row.get("choices")
    if choices is not None and not (
        isinstance(choices, list) and len(choices) > 1 and all(isinstance(choice, str) for choice in choices)
    ):
        raise UserError(f"{where}: 'choices' has to be a list of at least two texts")


def _identity(options: InferOptions) -> str:
    """Digest of the file, the controller and all settings that answers depend on."""
    settings = {name: str(value) for name, value in settings_of(options).items() if name not in ("output", "device")}
    config = Path(options.controller or "") / "config.json"
    files = [file for file in (options.questions, config) if file is not None and file.is_file()]
    return digest(settings, *files)


def _resumed(partial: Path, identity: str, options: InferOptions) -> int:
    """How many rows are finished in a partial output: whole batches, so that batches, and what is drawn in them, are
    those of an undisturbed run. What is behind them is cut off; an output that is not there is begun."""
    begun = json.dumps({"identity": identity}).encode() + b"\n"
    lines = partial.read_bytes().splitlines(keepends=True) if partial.exists() else [begun]
    if not lines or lines[0] != begun:
        raise UserError(
            f"{partial} was begun with other questions or settings; delete it, or choose another --output than "
            f"{options.output}"
        )
    done = sum(line.endswith(b"\n") for line in lines[1:])
    done -= done % options.batch
    with replacing(partial) as path:
        path.write_bytes(b"".join(lines[: 1 + done]))
    return done


def _answered(
    rows: Sequence[Any], chooser: Chooser, generator: Generator, options: InferOptions, start: int
) -> list[dict[str, Any]]:
    questions = [str(row["question"]) for row in rows]
    chains = chooser.choose(questions)
    responses = [""] * len(rows)
    for scored in (True, False):
        places = [place for place, row in enumerate(rows) if (row.get("choices") is not None) is scored]
        if not places:
            continue
        asked, own = [questions[place] for place in places], [chains[place] for place in places]
        if scored:
            found = pick(chooser.backbone, asked, [rows[place]["choices"] for place in places], own)
        else:
            decoding = replace(options.decoding, seed=options.decoding.seed + start)
            found = write(generator, asked, own, replace(options, decoding=decoding))
        for place, response in zip(places, found, strict=True):
            responses[place] = response
    return [
        {**row, "chain": str(chain), "layers": chain.depth, "response": response}
        for row, chain, response in zip(rows, chains, responses, strict=True)
    ]


def _summarize(rows: Sequence[dict[str, Any]], num_layers: int) -> None:
    counts = Counter(row["chain"] for row in rows)
    mean = sum(row["layers"] for row in rows) / max(1, len(rows))
    console.print(f"{len(rows)} questions, {len(counts)} chains, {mean:.1f} of {num_layers} layers on average")
    for chain, count in counts.most_common(_SHOWN):
        console.print(f"  {count:6}  {chain}", soft_wrap=True)
