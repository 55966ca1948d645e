"""What the capabilities of a model depend on: its weights, this code, the libraries, and the processor."""

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from cola_learn.backbone.replay import Replay

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
