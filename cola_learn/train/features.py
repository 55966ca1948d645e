"""The controller's input: hidden states of the prompt after early layers of the backbone."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
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


def prompt_features(
    backbone: Backbone, prompts: Sequence[str], layers: Sequence[int], shown: bool = True
) -> list[Tensor]:
    """Hidden states of each prompt after the first ``layers`` layers (0 is the embedding layer), with a progress bar
    if it is to be ``shown``.

    Returns:
        For each prompt a bfloat16 tensor ``[T, F, H]`` on the CPU: tokens, entries of ``layers``, hidden size.

    Raises:
        UserError: if any is not finite.
    """
    executor = Executor(backbone, cache_bytes=0)  # a prompt's chains run together: what they share runs once anyway
    features = []
    with progress_bar(shown=shown and len(prompts) > 8) as bar:
        task = bar.add_task("features", total=len(prompts), unit="prompts", note="")
        for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
            tokens = map(backbone.encoder.prompt, prompts[start : start + _PROMPTS_AT_ONCE])
            cut = [backbone.encoder.cut(each, len(each) - MAX_TOKENS) for each in tokens]
            handles = [executor.open(Row.plain(each)) for each in cut]
            features += executor.read(handles, layers)
            for handle in handles:
                executor.close(handle)
            bar.advance(task, len(handles))
    return features


def stored_features(
    fingerprint: str,
    prompts: Sequence[str],
    layers: Sequence[int],
    load: Callable[[], Backbone],
    dtype: str,
    special_tokens: str = "",
) -> list[Tensor]:
    """``prompt_features`` that are computed once and kept in the cache; ``load`` gives the backbone, if it is
    needed, that ``fingerprint``, ``dtype`` and ``special_tokens`` are of."""
    identity = json.dumps([fingerprint, dtype, special_tokens, list(layers), list(prompts), MAX_TOKENS])
    file = cache_folder() / "features" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.safetensors"
    features = read_features(file)
    if features is None:
        features = prompt_features(load(), prompts, layers)
        try:
            write_features(file, features)
            console.print(f"features    {file}", soft_wrap=True)
        except UserError as error:  # they are only computed again next time
            console.print(f"features    not kept: {error}", soft_wrap=True)
    return features


def features_of(
    manifest: Manifest, questions: Iterable[Question], layers: Sequence[int], load: Callable[[], Backbone], dtype: str
) -> dict[str, Tensor]:
    """``stored_features`` of questions as the labels of a manifest put them, by their keys. What follows each other of
    one task and split is kept together: training and evaluation find each other's."""
    found: dict[str, Tensor] = {}
    for _, some in itertools.groupby(questions, key=lambda question: (question.task, question.split)):
        together = list(some)
        prompts = [as_sample(question, manifest.scoring.template).prompt for question in together]
        states = stored_features(
            manifest.model.fingerprint, prompts, layers, load, dtype, manifest.model.special_tokens
        )
        found |= {question.key: state for question, state in zip(together, states, strict=True)}
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
