"""Answering a file of questions: batched, and resumed where it was stopped."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cola_learn.backbone.load import fingerprint_of
from cola_learn.chains import Chain
from cola_learn.command import settings_of
from cola_learn.console import console, progress_bar
from cola_learn.errors import UserError
from cola_learn.files import digest, locked, writable_folder, write_bytes
from cola_learn.infer.chooser import Chooser, make_chooser, pick, write
from cola_learn.infer.infer_options import InferOptions
from cola_learn.tasks.columns import Fields
from cola_learn.tasks.layouts import read_asked
from cola_learn.tasks.question_files import read_rows
from cola_learn.train.controller import Controller
from cola_learn.train.hub import controller_files, fetch_controller

ADDED = ("chain", "layers", "response")
_SHOWN = 5  # chains in the summary


def answer_file(options: InferOptions) -> None:
    """Write every row of a file with the chain chosen for its question, its depth, and the response.

    What is finished lies in ``OUTPUT.partial``, whose first line is a digest of all that answers depend on; behind it
    each row has one of its own.

    Raises:
        UserError: if the file cannot be read, a row has no question, or the output is there or another run's.
    """
    assert options.questions is not None
    assert options.output is not None
    if options.output.exists():
        raise UserError(f"--output {options.output} is there already; delete it, or choose another")
    named = f"--questions {options.questions}"
    rows = read_rows(str(options.questions), "")[0]
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict) and (taken := [added for added in ADDED if added in row]):
            raise UserError(f"{named} row {number}: has a column {taken[0]!r}, which the output adds; rename it")
    asked = read_asked(rows, named, options.layout)
    folder, name = writable_folder(options.output.parent), options.output.name
    partial = folder / f"{name}.partial"
    with locked(folder, f".{name}.lock"):
        done = _resumed(partial, _identity(options), options)
        if done:
            console.print(f"{done} of {len(rows)} questions are done already")
        chooser = make_chooser(options)
        with progress_bar() as bar, partial.open("a", encoding="utf-8") as file:
            task = bar.add_task("questions", total=len(rows), completed=done, unit="questions", note="")
            for start in range(done, len(rows), options.batch):
                some = slice(start, start + options.batch)
                for row in _answered(rows[some], asked[some], chooser, options, start):
                    line = json.dumps(row, ensure_ascii=False)
                    file.write(f"{_seal(line.encode())} {line}\n")
                file.flush()
                bar.advance(task, len(rows[some]))
        lines = partial.read_bytes().splitlines(keepends=True)[1:]
        if len(lines) != len(rows) or not all(map(_is_whole, lines)):
            raise UserError(f"{partial} was changed while it was written; run the same command again")
        answered = b"".join(line.partition(b" ")[2] for line in lines)
        write_bytes(options.output, answered)
        partial.unlink()
    _summarize([json.loads(line) for line in answered.splitlines()], chooser.backbone.num_layers)
    console.print(f"answers     {options.output}", soft_wrap=True)


def _identity(options: InferOptions) -> str:
    """Digest of the questions, the controller, the model and all settings that answers depend on."""
    settings = {name: str(value) for name, value in settings_of(options).items() if name not in ("output", "device")}
    backbone, folder = options.backbone or "embedded", None
    if options.controller is not None:
        folder = fetch_controller(options.controller)
        backbone = options.backbone or Controller.from_pretrained(folder).config.backbone
    settings["model"] = str(fingerprint_of(backbone))
    files = controller_files(folder) if folder else []
    return digest(settings, *files, *([options.questions] if options.questions and options.questions.is_file() else []))


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
    done = len(list(itertools.takewhile(_is_whole, lines[1:])))
    done -= done % options.batch
    write_bytes(partial, b"".join(lines[: 1 + done]))
    return done


def _seal(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:16]


def _is_whole(line: bytes) -> bool:
    """Whether a line of the partial output is as it was written: the first digits of its SHA-256, and a row."""
    seal, _, row = line.partition(b" ")
    return line.endswith(b"\n") and seal.decode(errors="replace") == _seal(row[:-1])


def _answered(
    rows: Sequence[Any],
    asked: Sequence[Fields],
    chooser: Chooser,
    options: InferOptions,
    start: int,
) -> list[dict[str, Any]]:
    chains: dict[int, Chain] = {}
    responses = [""] * len(rows)
    for scored in (True, False):
        places = [place for place, one in enumerate(asked) if bool(one.choices) is scored]
        if not places:
            continue
        texts = [asked[place].text for place in places]
        own = chooser.chains(texts, free=not scored)
        chains |= zip(places, own, strict=True)
        if scored:
            found = pick(chooser.backbone, texts, [asked[place].choices for place in places], own)
        else:
            decoding = replace(options.decoding, seed=options.decoding.seed + start)
            found = write(chooser.backbone, texts, own, replace(options, decoding=decoding))
        for place, response in zip(places, found, strict=True):
            responses[place] = response
    return [
        {**row, "chain": str(chain), "layers": chain.depth, "response": response}
        for row, chain, response in zip(rows, (chains[place] for place in range(len(rows))), responses, strict=True)
    ]


def _summarize(rows: Sequence[dict[str, Any]], num_layers: int) -> None:
    counts = Counter(row["chain"] for row in rows)
    mean = sum(row["layers"] for row in rows) / max(1, len(rows))
    console.print(f"{len(rows)} questions, {len(counts)} chains, {mean:.1f} of {num_layers} layers on average")
    for chain, count in counts.most_common(_SHOWN):
        console.print(f"  {count:6}  {chain}", soft_wrap=True)
