"""Loading a backbone: any Hugging Face causal LM by id or folder, or the embedded one."""

from typing import Any, Literal

import torch

from cola_learn import assets
from cola_learn.backbone.replay import Backbone
from cola_learn.cli import UserError, console

EMBEDDED = "embedded"
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def load_backbone(
    name: str = EMBEDDED, device: str = "auto", dtype: Dtype = "auto", trust_remote_code: bool = False
) -> Backbone:
    """Load and check a frozen backbone.

    Args:
        name: ``embedded`` (SmolLM2-135M-Instruct), a Hugging Face id, or a folder.
        device: ``auto`` (CUDA when there is one), ``cpu``, ``cuda``, ``cuda:1`` ..., or ``split``: over all GPUs and,
            what does not fit there, the host's memory, as accelerate divides it; hidden states follow the layers.
        dtype: ``auto`` is bfloat16 where the hardware computes in it, else float32.
        trust_remote_code: run modelling code that comes with the model; off unless asked for.

    Raises:
        UserError: if the model cannot be loaded or its layers cannot be replayed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = str(assets.model_folder()) if name == EMBEDDED else name
    split = device == "split"
    where = _device("auto" if split else device)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    placing = {"device_map": "auto"} if split else {}
    with console.status(f"loading {name} ..."):
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=_dtype(dtype, where), **placing, **options)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"--backbone {name} cannot be loaded ({reason}); give a Hugging Face id, a folder, or {EMBEDDED}"
            ) from None
        return Backbone(model if split else model.to(where), tokenizer, name)


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {device} cannot be used ({reason}); use auto, cpu, cuda, cuda:0 or split") from None
    return chosen


def _dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if _cpu_computes_bfloat16() else torch.float32


def _cpu_computes_bfloat16() -> bool:
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)
