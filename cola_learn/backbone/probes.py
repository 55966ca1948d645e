"""Capabilities of a model, found by testing it: whether its layers replay, and how rows may be batched."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cola_learn.assets import cache_folder
from cola_learn.backbone import attention
from cola_learn.backbone.call_sizes import SIZES, CallSizes, call_sizes
from cola_learn.backbone.recording import Batch, Recording, token_dimensions
from cola_learn.backbone.replay import Replay
from cola_learn.backbone.rows import Row
from cola_learn.backbone.states import Growing, Slotted
from cola_learn.errors import UserError
from cola_learn.files import as_value, digest, read_json, write_json


@dataclass(frozen=True)
class Capabilities:
    """How rows of a model may run together.

    Attributes:
        shares_prompts: whether the options of a question may share one sequence (plain masked attention with
            positions given per token).
        shared_prompt_limit: most tokens of such a sequence: the sliding window, where some layers have one.
        packing: for rows packed into one sequence, the token dimension of each argument; None where
            the architecture cannot run them so.
        stackable: whether rows of one length may be stacked instead; if not, rows run one by one.
        slots: whether keys and values by visit are all that layers remember of earlier tokens.
        call_sizes: batch sizes in tokens at which results are batch-invariant: bit-identical whatever else is in the
            batch (``call_sizes.py``). Empty: none are, and batches have any size.
        threads_agree: whether one thread gives the same bits at these sizes as the present number of threads.
    """

    shares_prompts: bool
    shared_prompt_limit: int
    packing: tuple[int | None, ...] | None
    stackable: bool
    slots: bool
    call_sizes: tuple[int, ...]
    threads_agree: bool

    @property
    def exact(self) -> bool:
        """Whether results are batch-invariant; never on a GPU."""
        return bool(self.call_sizes)

    def missing(self, tokens: int) -> int:
        """How many tokens a call of so many is to be filled up with."""
        return next((size - tokens for size in self.call_sizes if size >= tokens), 0)


def probe(replay: Replay, fingerprint: str) -> Capabilities:
    """Find out what a model is capable of, by trying; the model is left as it was.

    That its layers replay is tried every time. The rest is tried once and kept in the cache, under the ``fingerprint``
    of the weights and all else that it depends on.

    Raises:
        UserError: if its layers do not replay to its own logits.
    """
    _check_replay(replay)
    identity = circumstances(replay, fingerprint)
    file = cache_folder() / "capabilities" / f"{digest(identity)}.json"
    found = _remembered(file)
    if found is None:
        found = _try_all(replay)
        with contextlib.suppress(UserError):  # nothing is lost but time
            write_json(file, {"capabilities": asdict(found), "found_for": identity})
    return found


def _remembered(file: Path) -> Capabilities | None:
    """What a file remembers, or None if it is missing or damaged."""
    try:
        values = read_json(file)["capabilities"]
        found = as_value(Capabilities, {**values, "call_sizes": tuple(values["call_sizes"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sizes = found.call_sizes
    return found if set(sizes) <= set(SIZES) and list(sizes) == sorted(sizes) else None


def _try_all(replay: Replay) -> Capabilities:
    limit = getattr(replay.model.config.get_text_config(), "sliding_window", None) or sys.maxsize
    shares_prompts = _options_can_share_a_sequence(replay, limit)
    slots, sizes = False, CallSizes((), False)
    with attention.of_packed_rows(replay.model) as known:
        packing = _packing(replay, shares_prompts) if known else None
        if packing is not None:
            slots = _slots_suffice(replay, packing)
            if replay.device.type == "cpu":
                with contextlib.suppress(Exception):  # then nothing is promised
                    sizes = call_sizes(replay, packing)
    stackable = packing is not None or _rows_can_be_stacked(replay)
    return Capabilities(shares_prompts, limit, packing, stackable, slots, *sizes)


@torch.inference_mode()
def _check_replay(replay: Replay) -> None:
    """Hold the replay against the model's own logits."""
    tokens = replay.probe_tokens(1, 8)
    expected = replay.own_logits
    try:
        recording = replay.record_inputs(input_ids=tokens)
        hidden = run_all(replay, Batch([recording]), recording.hidden)
        logits = torch.cat([replay.finish(hidden[0, :5]), replay.finish(hidden[0, 5:])])
    except Exception as error:
        raise UserError(
            f"backbone {replay.name}: {type(replay.model).__name__} layers cannot be replayed: {error}"
        ) from error
    if not bool(expected.isfinite().all()):
        advice = "; float16 overflows in many models: use bfloat16" if replay.dtype == torch.float16 else ""
        raise UserError(
            f"backbone {replay.name}: logits of a short text are not finite in {replay.dtype_name}, so its "
            f"weights are damaged or overflow{advice}"
        )
    if not agree(logits, expected, replay.dtype):
        raise UserError(
            f"backbone {replay.name}: {type(replay.model).__name__} computes between its layers; replay does "
            "not reproduce its logits; unsupported"
        )


@torch.inference_mode()
def _options_can_share_a_sequence(replay: Replay, limit: int) -> bool:
    """Compare options behind one prompt with options in rows of their own, on random tokens."""
    prompt, *options = replay.probe_tokens(3, 6).tolist()
    row = Row.with_options(prompt, options)
    if len(row.tokens) > limit:
        return False  # a mask of ours would widen the window
    try:
        logits = _plain_logits(replay, row.model_inputs(replay.device, replay.dtype))
    except torch.OutOfMemoryError:
        raise
    except Exception:
        return False  # the architecture takes no 4-D mask or no positions
    start = len(prompt)
    for option in options:
        alone = Row.plain([*prompt, *option])
        expected = _plain_logits(replay, alone.model_inputs(replay.device, replay.dtype))
        got = torch.cat([logits[: len(prompt)], logits[start : start + len(option)]])
        if not agree(got, expected, replay.dtype):
            return False
        start += len(option)
    return True


@torch.inference_mode()
def _packing(replay: Replay, shares_prompts: bool) -> tuple[int | None, ...] | None:
    """Compare rows of different lengths run as one sequence with the same rows run one by one."""
    tokens = replay.probe_tokens(4, 9).tolist()
    rows = [Row.plain(tokens[0][:6]), Row.plain(tokens[1])]
    if shares_prompts:
        rows.append(Row.with_options(tokens[2], [tokens[3][:2], tokens[3][2:]]))
    try:
        recordings = [replay.record(row) for row in rows]
        packing = token_dimensions(*recordings[:2])
        if packing is not None and _same_together(replay, recordings, Batch(recordings, packing)):
            return packing
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever an architecture trips over, stacked rows still serve
        pass
    return None


@torch.inference_mode()
def _rows_can_be_stacked(replay: Replay) -> bool:
    """Compare stacked rows with the same rows run one by one."""
    recordings = [replay.record_inputs(input_ids=tokens[None]) for tokens in replay.probe_tokens(3, 8)]
    try:
        return _same_together(replay, recordings, Batch(recordings))
    except RuntimeError:
        return False  # some argument mixes the batch with another dimension


@torch.inference_mode()
def _slots_suffice(replay: Replay, packing: Sequence[int | None]) -> bool:
    """Compare two rows that go on step by step, one of them through a loop, with the same rows run whole."""
    tokens = replay.probe_tokens(2, 12).tolist()
    last = replay.num_layers - 1
    chains = (tuple(range(last + 1)), (*range(last + 1), last, last))
    sequences = [
        Growing(tuple(row[:length]), layers) for row, length, layers in zip(tokens, (5, 9), chains, strict=True)
    ]
    states = Slotted(replay, packing, cache_bytes=0)
    try:
        for step in range(3):
            found = states.last(sequences)
            for sequence, row in zip(sequences, tokens, strict=True):
                sequence.new.append(row[len(sequence.prompt) + step])
        whole = []
        for sequence in sequences:
            recording = replay.record(Row.plain([*sequence.prompt, *sequence.new[:-1]]))
            whole.append(run_all(replay, Batch([recording]), recording.hidden, sequence.layers)[0, -1])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever an architecture trips over, running all tokens again still serves
        return False
    return agree(replay.finish(found), replay.finish(torch.stack(whole)), replay.dtype)


def run_all(replay: Replay, batch: Batch, hidden: Tensor, layers: Sequence[int] | None = None) -> Tensor:
    """The hidden states of a batch after all layers, or after these in their order."""
    for layer in range(replay.num_layers) if layers is None else layers:
        hidden = replay.run_layer(layer, hidden, batch)
    return hidden


def _same_together(replay: Replay, recordings: list[Recording], batch: Batch) -> bool:
    """Whether rows run as a batch, packed or stacked, come out as each does alone."""
    alone = [run_all(replay, Batch([recording]), recording.hidden)[0] for recording in recordings]
    hidden = run_all(replay, batch, torch.cat([recording.hidden for recording in recordings], 1 if batch.packed else 0))
    return agree(replay.finish(hidden.flatten(0, 1)), replay.finish(torch.cat(alone)), replay.dtype)


def agree(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Equal but for rounding, as far as this precision can tell."""
    if found.shape != expected.shape:
        return False
    error = (found.float() - expected.float()).abs().max() / expected.float().abs().max()
    return bool(error <= (1e-4 if dtype == torch.float32 else 0.05))


def _plain_logits(replay: Replay, inputs: dict[str, Any]) -> Tensor:
    logits: Tensor = replay.model(**inputs, use_cache=False).logits
    return logits[0]


_KERNEL_VARIABLES = ("ATEN_", "DNNL_", "MKL_", "ONEDNN_")  # say which kernels a library may choose


def circumstances(replay: Replay, fingerprint: str) -> dict[str, object]:
    """All that rounding, and how rows may run together, may depend on."""
    return {
        "backbone": fingerprint,
        "class": type(replay.model).__name__,
        "configuration": replay.model.config.to_json_string(use_diff=False),
        "attention": replay.model.config._attn_implementation,
        "dtype": replay.dtype_name,
        "devices": sorted({_device(place) for place in (replay.device, *replay.places)}),
        "prepacked": replay.prepacked,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "libraries": torch.__config__.show(),
        "transformers": importlib.metadata.version("transformers"),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "precision": torch.get_float32_matmul_precision(),
        "processor": _processor(),
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_KERNEL_VARIABLES)},
        "code": _code(),
    }


def _device(place: torch.device) -> str:
    return torch.cuda.get_device_name(place) if place.type == "cuda" else str(place)


def _processor() -> list[str]:
    """Model, abilities and caches of the processor, as far as the system tells."""
    telling = ("vendor_id", "cpu family", "model", "stepping", "cache size", "flags", "Features", "CPU ")
    try:
        first, *_ = Path("/proc/cpuinfo").read_text().split("\n\n")
    except OSError:
        return [platform.machine(), platform.processor()]
    return [platform.machine(), *(line for line in first.splitlines() if line.startswith(telling))]


def _code() -> str:
    """Digest of this folder, in which a capability is found out and used."""
    found = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()
