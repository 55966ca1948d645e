"""A static chain as a GGUF file, for llama.cpp and what is built on it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from cola_learn.errors import UserError, first_line

CONVERTER = "convert_hf_to_gguf.py"
_PROMPT, _TOKENS = "The capital of France is", 16  # what is written by both; how many tokens of it
_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def check_gguf(file: Path) -> str:
    """The path of llama.cpp's converter, if ``file`` can be written.

    Raises:
        UserError: if there is no converter on the PATH, or something has the file's name.
    """
    if file.exists():
        raise UserError(f"--gguf {file} is there already; name another file")
    if (converter := shutil.which(CONVERTER)) is None:
        raise UserError(f"--gguf needs {CONVERTER} on the PATH; it is a part of llama.cpp")
    return converter


def save_gguf(checkpoint: Path, file: Path) -> None:
    """Convert a checkpoint, in its own precision. The file takes its name only if transformers, which reads GGUF files
    by itself, then writes the same greedy text with the same tokens.

    Args:
        checkpoint: folder of a model that transformers loads.
        file: to write.

    Raises:
        UserError: if there is no converter, it fails, or what it wrote is another model.
    """
    converter = check_gguf(file)
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    outtype = _TYPES[str(config.dtype or torch.float32).removeprefix("torch.")]
    file.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=f".{file.name}-") as scratch:
        written = Path(scratch) / "model.gguf"
        command = [converter, str(checkpoint.absolute()), "--outfile", str(written), "--outtype", outtype]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0 or not written.exists():
            last = (ran.stderr.strip() or ran.stdout.strip() or "no output").splitlines()[-1]
            raise UserError(f"--gguf {file}: {CONVERTER} failed with exit code {ran.returncode}: {last}")
        expected = _greedy(checkpoint)
        try:
            found = _greedy(written.parent, gguf_file=written.name)
        except Exception as error:  # whatever transformers raises at kinds of models that it reads no GGUF of
            raise UserError(f"--gguf {file}: transformers cannot read it back ({first_line(error)})") from None
        if found != expected:
            other = f"it continues {_PROMPT!r} with {found[1]!r}, the checkpoint with {expected[1]!r}"
            raise UserError(f"--gguf {file} is not written: read back, {other}")
        os.replace(written, file)


@torch.no_grad()
def _greedy(folder: Path, **options: Any) -> tuple[list[int], str]:
    """The tokens and the text that a model writes, the prompt's tokens among them."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False, **options).eval()
    tokens = tokenizer(_PROMPT, return_tensors="pt")
    written = model.generate(**tokens, max_new_tokens=_TOKENS, do_sample=False)[0]
    return written.tolist(), tokenizer.decode(written[tokens["input_ids"].shape[1] :])
