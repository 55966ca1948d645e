"""Fingerprints of backbones: digests of weights, configuration and tokenizer."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import align_module_device
from safetensors import safe_open

from cola_learn import assets
from cola_learn.errors import UserError, first_line

_DIGITS = 16
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.pt", "*.pth")  # the first kind that there is counts
_OTHERS = (
    *("config.json", "generation_config.json", "tokenizer*", "vocab*", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template*"),
)


def of_files(source: str) -> str | None:
    """16 hex digits of what a model was loaded from: its weight files, its configuration (that of generation ends open
    answers) and its tokenizer files, whatever the precision. Digests of files are remembered by size and times. None
    where there are no weight files.

    Args:
        source: folder or Hugging Face id, as transformers loads it.
    """
    if len(gguf := gguf_files(source)) == 1:
        return assets.digests(gguf)[gguf[0]][:_DIGITS]
    folder = _folder(source)
    if folder is None:
        return None
    weights: list[Path] = next((files for kind in _WEIGHTS if (files := sorted(folder.glob(kind)))), [])
    if not weights:
        return None
    if pinned := assets.pinned_hash(folder):  # what it was made from; the conversion is another file elsewhere
        return pinned[:_DIGITS]
    others = sorted({file for kind in _OTHERS for file in folder.glob(kind)})
    found = hashlib.sha256()
    if base := base_of_adapter(source):  # what it is merged into counts too
        found.update(str(of_files(base)).encode())
        others.append(folder / "adapter_config.json")
    for file, digest in assets.digests([*weights, *others]).items():
        found.update(f"{file.name} {digest}\n".encode())
    return found.hexdigest()[:_DIGITS]


def of_memory(model: Any, tokenizer: Any = None) -> str:
    """16 hex digits of a model that was loaded elsewhere: all its weights, as bfloat16, and its tokenizer, if any."""
    found = hashlib.sha256()
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        owner, _, own_name = name.rpartition(".")
        module = model.get_submodule(owner)
        with align_module_device(module):  # weights that are kept elsewhere come back for this
            values = getattr(module, own_name).detach().to("cpu", torch.bfloat16).contiguous()
        found.update(f"{name}{tuple(weight.shape)}".encode())
        found.update(values.view(torch.int16).numpy().tobytes())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        found.update(backend.to_str().encode() + str(tokenizer.chat_template).encode())
    elif hasattr(tokenizer, "get_vocab"):
        found.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    return found.hexdigest()[:_DIGITS]


def changed_weight(model: Any, source: str) -> str | None:
    """The first weight of a loaded model that is not the one in the safetensors files which it is said to be of; None
    where all are, or cannot be compared (quantized, or called otherwise in the files).

    Args:
        model: of transformers.
        source: folder or Hugging Face id.
    """
    own, folder = dict(model.named_parameters()), _folder(source)
    for file in sorted(folder.glob("*.safetensors")) if folder else ():
        with safe_open(file, "pt") as stored:
            for name in own.keys() & set(stored.keys()):
                weight = own[name].detach()
                alike = weight.is_floating_point() and list(weight.shape) == stored.get_slice(name).get_shape()
                if alike and not torch.equal(weight.cpu(), stored.get_tensor(name).to(weight.dtype)):
                    return str(name)
    return None


def gguf_files(source: str) -> list[Path]:
    """The GGUF file that a model is loaded from, or those in a folder that holds no other model; else none."""
    path = Path(source)
    if path.is_file():
        return [path] if path.suffix == ".gguf" else []
    return sorted(path.glob("*.gguf")) if source and path.is_dir() and not (path / "config.json").exists() else []


def base_of_adapter(source: str) -> str | None:
    """What the PEFT adapter in a folder is for; None where there is none.

    Raises:
        UserError: if its configuration cannot be read.
    """
    file = Path(source) / "adapter_config.json"
    if not file.is_file():
        return None
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({first_line(error)}); it names no base_model_name_or_path") from None


def _folder(source: str) -> Path | None:
    """Where the files of a folder or of a Hugging Face id are."""
    if source and Path(source).is_dir():
        return Path(source)
    from transformers.utils import cached_file

    try:
        config = cached_file(source, "config.json", local_files_only=True)
    except (OSError, ValueError):
        return None
    return Path(config).parent if config else None
