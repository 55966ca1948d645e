"""Numbers of tokens in a call with which results do not depend on company: tried once, then remembered.

CPU libraries choose other kernels, which round differently, by the number of rows of a product. Which numbers agree to
the last bit has to be tried, for most of the time that loading a backbone takes. It depends on the shapes of the model,
the libraries and the processor, and is kept in the cache under all of them.
"""

import contextlib
import importlib.metadata
import itertools
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cola_learn.assets import cache_folder
from cola_learn.backbone.probes import Replays
from cola_learn.backbone.recording import Batch, Recording
from cola_learn.backbone.rows import Row
from cola_learn.errors import UserError
from cola_learn.files import digest, read_json, write_json

_STEP = 8
_SIZES = tuple(range(_STEP, 257, _STEP))  # tokens of a call, on a CPU
_MIDDLE = 128  # what the others are compared with
_DRAWS = 500_000  # products of every matrix that are compared: one in 150,000 rounds differently
_ODD = (3, 5, 7, 9, 11, 13, 17, 21, 25, 29, 31, 37, 48)  # together 256 tokens
_KERNEL_VARIABLES = ("ATEN_", "DNNL_", "MKL_", "ONEDNN_")  # say which kernels a library may choose


class CallSizes(NamedTuple):
    """Sizes that agree, rising, and whether a single thread comes to the same bits as the present number does."""

    sizes: tuple[int, ...]
    threads_agree: bool


def call_sizes(backbone: Replays, packing: list[int | None]) -> CallSizes:
    """The sizes that agree for rows of this backbone packed along ``packing``, from the cache or by trying."""
    identity = _identity(backbone)
    file = cache_folder() / "call_sizes" / f"{digest(identity)}.json"
    remembered = _read(file)
    if remembered is None:
        remembered = _try_all(backbone, packing)
        with contextlib.suppress(UserError):  # nothing is lost but time
            write_json(file, {**remembered._asdict(), "found_for": identity})
    return remembered


def _read(file: Path) -> CallSizes | None:
    """What a file remembers, or None if it is missing or damaged."""
    try:
        found = read_json(file)
        sizes, threads_agree = tuple(found["sizes"]), found["threads_agree"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = set(sizes) <= set(_SIZES) and list(sizes) == sorted(sizes) and isinstance(threads_agree, bool)
    return CallSizes(sizes, threads_agree) if known else None


def _identity(backbone: Replays) -> dict[str, object]:
    """All that rounding may depend on."""
    return {
        "backbone": backbone.fingerprint,
        "class": type(backbone.model).__name__,
        "attention": backbone.model.config._attn_implementation,
        "dtype": backbone.dtype_name,
        "prepacked": backbone.prepacked,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "libraries": torch.__config__.show(),
        "transformers": importlib.metadata.version("transformers"),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "precision": torch.get_float32_matmul_precision(),
        "processor": _processor(),
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_KERNEL_VARIABLES)},
        "tried": [_SIZES, _MIDDLE, _DRAWS, _ODD],
    }


def _processor() -> list[str]:
    """Model, abilities and caches of the processor, as far as the system tells."""
    telling = ("vendor_id", "cpu family", "model", "stepping", "cache size", "flags", "Features", "CPU ")
    try:
        first, *_ = Path("/proc/cpuinfo").read_text().split("\n\n")
    except OSError:
        return [platform.machine(), platform.processor()]
    return [platform.machine(), *(line for line in first.splitlines() if line.startswith(telling))]


@torch.inference_mode()
def _try_all(backbone: Replays, packing: list[int | None]) -> CallSizes:
    """Run short rows in company of fewer and of more others through some layers and the head, and, since few of the
    differences get through a layer, random numbers through one matrix of every shape."""
    rows = [Row.plain(tokens) for tokens in backbone.probe_tokens(_SIZES[-1] // _STEP, _STEP).tolist()]
    recordings = [backbone.record(row) for row in rows]
    layers = sorted({0, backbone.num_layers // 2, backbone.num_layers - 1})
    linears = [module for layer in backbone.layers for module in layer.modules() if type(module) is nn.Linear]
    matrices = {module.weight.shape: module for module in linears}
    draws = torch.Generator().manual_seed(0)
    products = [
        (module, torch.randn(_SIZES[-1], shape[1], generator=draws).to(module.weight.dtype))
        for shape, module in matrices.items()
        for _ in range(-(-_DRAWS // (_MIDDLE * shape[0])))
    ]

    def through(members: list[Recording]) -> Iterator[Tensor]:
        """Hidden states of rows packed, after each of the layers."""
        batch, hidden = Batch(members, packing), torch.cat([recording.hidden for recording in members], 1)
        for layer in layers:
            hidden = backbone.run_layer(layer, hidden, batch)
            yield hidden

    def found(size: int) -> Iterator[Tensor]:
        for module, numbers in products:
            yield module(numbers[:size])[:_MIDDLE]
        for hidden in through(recordings[: size // _STEP]):
            yield hidden[0, :_MIDDLE]
        yield backbone.finish(hidden[0], alone=True)[:_MIDDLE]

    def sizes(expected: list[Tensor]) -> tuple[int, ...]:
        def agrees(size: int) -> bool:
            return all(torch.equal(one, other[:size]) for one, other in zip(found(size), expected, strict=True))

        if not agrees(_MIDDLE):
            return ()
        fewer = [size for size in _SIZES if size < _MIDDLE and agrees(size)]
        more = itertools.takewhile(agrees, range(_MIDDLE + _STEP, _SIZES[-1] + 1, _STEP))
        return (*fewer, _MIDDLE, *more)

    def odd() -> Tensor:
        """Rows of odd lengths: attention may divide these otherwise among threads."""
        *_, last = through([backbone.record(Row.plain(tokens[:length])) for length in _ODD])
        return last

    [tokens] = backbone.probe_tokens(1, max(_ODD)).tolist()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # best is what other numbers of threads come to as well
    try:
        alone, odd_alone = list(found(_MIDDLE)), odd()
    finally:
        torch.set_num_threads(threads)
    found_sizes = sizes(alone)
    if found_sizes:
        return CallSizes(found_sizes, threads == 1 or torch.equal(odd(), odd_alone))
    return CallSizes(sizes(list(found(_MIDDLE))), False)
