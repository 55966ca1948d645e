"""The controller's input: hidden states of the prompt after early layers of the backbone."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cola_learn.assets import cache_folder
from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.rows import Row
from cola_learn.console import console, progress_bar
from cola_learn.errors import UserError, first_line
from cola_learn.files import check_seal, sealing
from cola_learn.label.manifest import Manifest
from cola_learn.tasks.questions import Question, as_sample
from cola_learn.train.controller_config import MAX_TOKENS

_PROMPTS_AT_ONCE = 16
Advance = Callable[[int], object]


def prompt_features(
    backbone: Backbone, prompts: Sequence[str], layers: Sequence[int], advance: Advance | None = None
) -> list[Tensor]:
    """Hidden states of each prompt after the first ``layers`` layers (0 is the embedding layer), with a progress bar
    unless ``advance`` is told how many more are done.

    Returns:
        For each prompt a bfloat16 tensor ``[T, F, H]`` on the CPU: tokens, entries of ``layers``, hidden size.

    Raises:
        UserError: if any is not finite.
    """
    executor = Executor(backbone, cache_bytes=0)  # a prompt's chains run together: what they share runs once anyway
    features = []
    with _advancing(len(prompts) if advance is None else 0) as own:
        for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
            tokens = map(backbone.encoder.prompt, prompts[start : start + _PROMPTS_AT_ONCE])
            cut = [backbone.encoder.cut(each, len(each) - MAX_TOKENS) for each in tokens]
            handles = [executor.open(Row.plain(each)) for each in cut]
            features += executor.read(handles, layers)
            for handle in handles:
                executor.close(handle)
            (advance or own)(len(handles))
    return features


@contextmanager
def _advancing(count: int) -> Iterator[Advance]:
    """A progress bar over so many prompts, unless they are few."""
    with progress_bar(shown=count > 8) as bar:
        task = bar.add_task("features", total=count, unit="prompts", note="")
        yield lambda more: bar.advance(task, more)


def features_of(
    manifest: Manifest, questions: Iterable[Question], layers: Sequence[int], load: Callable[[], Backbone], dtype: str
) -> dict[str, Tensor]:
    """``prompt_features`` of questions as the labels of a manifest put them, by their keys, computed once and kept in
    the cache; ``load`` gives the backbone, if it is needed. What follows each other of one task and split is kept
    together: training and evaluation find each other's."""
    model = manifest.model
    found: dict[str, Tensor] = {}
    missing: list[tuple[Path, list[str], list[str]]] = []
    for _, some in itertools.groupby(questions, key=lambda question: (question.task, question.split)):
        together = list(some)
        keys = [question.key for question in together]
        prompts = [as_sample(question, manifest.scoring.template).prompt for question in together]
        identity = json.dumps([model.fingerprint, dtype, model.special_tokens, list(layers), prompts, MAX_TOKENS])
        file = cache_folder() / "features" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.safetensors"
        if (kept := read_features(file)) is None:
            missing.append((file, keys, prompts))
        else:
            found |= dict(zip(keys, kept, strict=True))
    with _advancing(sum(len(prompts) for _, _, prompts in missing)) as advance:
        for file, keys, prompts in missing:
            features = prompt_features(load(), prompts, layers, advance)
            found |= dict(zip(keys, features, strict=True))
            try:
                write_features(file, features)
            except UserError as error:  # they are only computed again next time
                console.print(f"features    not kept: {error}", soft_wrap=True)
    return found


def write_features(file: Path, features: Sequence[Tensor]) -> None:
    """Keep features ``[T, F, H]`` in a file.

    Raises:
        UserError: if it cannot be written.
    """
    lengths = torch.tensor([len(tensor) for tensor in features])
    with sealing(file) as scratch:
        scratch.write_bytes(save({"values": torch.cat(list(features)), "lengths": lengths}))


def read_features(file: Path) -> list[Tensor] | None:
    """The features of a file, or None if it is missing or damaged; says so if it is damaged."""
    if not file.exists():
        return None
    try:
        check_seal(file, required=True)
        stored = load_file(file)
        return list(stored["values"].split(stored["lengths"].tolist()))
    except (OSError, ValueError, SafetensorError, KeyError, RuntimeError) as error:
        reason = first_line(error)
        console.print(f"features    {file} is damaged ({reason}); computed again", soft_wrap=True)
        return None
