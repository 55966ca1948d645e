"""Loading a backbone: any Hugging Face causal LM by id or folder, or the embedded one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from cola_learn import assets
from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.dtypes import Bos, Dtype
from cola_learn.backbone.fingerprint import base_of_adapter, gguf_files, of_files
from cola_learn.backbone.layers import position_limit
from cola_learn.console import console, printable
from cola_learn.errors import UserError, first_line

EMBEDDED = assets.DEFAULT


def load_backbone(
    name: str = EMBEDDED,
    device: str = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: bool = False,
    bos: Bos = "auto",
) -> Backbone:
    """Load and check a frozen backbone.

    Args:
        name: ``embedded`` (SmolLM2-135M-Instruct), ``gemma3-270m``, a Hugging Face id, a folder, a GGUF file, or the
            folder of a PEFT adapter, which is merged into its base model.
        device: ``auto`` (CUDA when there is one), ``cpu``, ``cuda``, ``cuda:1`` ..., or ``split``: over all GPUs and,
            what does not fit there, the host's memory, as accelerate divides it; hidden states follow the layers.
        dtype: ``auto`` is bfloat16 where the hardware computes in it, else float32.
        trust_remote_code: run modelling code that comes with the model; off unless asked for.
        bos: special tokens before prompts: ``auto`` as the tokenizer writes them, ``yes`` its beginning-of-text token
            in any case, ``no`` none.

    Raises:
        UserError: if the model cannot be loaded or its layers cannot be replayed.
    """
    split = device == "split"
    where = _device("auto" if split else device)
    options: dict[str, Any] = {"dtype": computing_type(dtype, where), "trust_remote_code": trust_remote_code}
    options |= {"device_map": "auto"} if split else {}
    with console.status(Text(f"loading {printable(name)} ...")):
        tokenizer = load_tokenizer(name, trust_remote_code)
        model = load_model(name, **options)
        return Backbone(model if split else model.to(where), tokenizer, name, bos, of_files(source_of(name)))


def load_model(name: str, **options: Any) -> Any:
    """The transformers model of a backbone, all of whose weights are those of its checkpoint.

    Args:
        name: as for ``load_backbone``.
        options: of ``from_pretrained``.

    Raises:
        UserError: if it cannot be loaded, or weights are missing or left over.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    source, how = locate(name)
    if base := base_of_adapter(source):
        return _merged(name, base, options)
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(source, output_loading_info=True, **how, **options)
    except Exception as error:  # whatever an odd configuration or file makes transformers raise
        raise UserError(
            f"backbone {name} cannot be loaded ({first_line(error)}); give a Hugging Face id, a folder, or one "
            f"of {', '.join(assets.MODELS)}"
        ) from None
    check_weights(name, loaded)
    return model


def check_weights(name: str, loaded: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that is not the model's: transformers would draw what is missing at random.

    Raises:
        UserError: naming a weight that is missing, of another shape, or of no use.
    """
    for kind, what in (
        ("missing_keys", "has no weights for"),
        ("mismatched_keys", "has weights of another shape for"),
        ("unexpected_keys", "has weights that its configuration has no place for:"),
    ):
        keys = sorted(str(key[0] if isinstance(key, tuple) else key) for key in loaded.get(kind) or ())
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(
                f"backbone {name} {what} {keys[0]}{more}; its config.json and its weights are not of one model"
            )


def _merged(name: str, base: str, options: Mapping[str, Any]) -> Any:
    """A model with the weights of an adapter of this name merged into it."""
    try:
        from peft import PeftModel
    except ImportError:
        raise UserError(f"backbone {name} is a PEFT adapter, which needs peft; pip install peft") from None
    console.print(f"backbone    {name}, an adapter, merged into {base}", soft_wrap=True)
    model = load_model(base, **options)
    try:
        return PeftModel.from_pretrained(model, source_of(name)).merge_and_unload(safe_merge=True)
    except Exception as error:
        raise UserError(f"backbone {name} cannot be merged into {base} ({first_line(error)})") from None


def locate(name: str) -> tuple[str, dict[str, str]]:
    """What transformers loads a backbone from, and what else it has to be told: the name of a GGUF file in a folder.

    Raises:
        UserError: for a folder of several GGUF files, or an embedded one that has not been fetched.
    """
    source = source_of(name)
    files = gguf_files(source)
    if len(files) > 1:
        raise UserError(f"backbone {name} holds {len(files)} GGUF files; name one of them, such as {files[0]}")
    return (str(files[0].parent), {"gguf_file": files[0].name}) if files else (source, {})


def base_of(name: str) -> str:
    """The backbone itself, or the one that an adapter is for."""
    return base_of_adapter(source_of(name)) or name


def source_of(name: str) -> str:
    """What transformers loads a backbone from: the folder of an embedded one, else the id or folder itself.

    Raises:
        UserError: if the embedded one has not been fetched.
    """
    return str(assets.model_folder(name)) if name in assets.MODELS else name


def max_tokens_of(name: str) -> int:
    """The longest sequence that a backbone was made for, read from its configuration alone.

    Raises:
        UserError: if it cannot be loaded.
    """
    return position_limit(_config_of(name))


def depth_of(name: str) -> int:
    """How many layers a backbone has, read from its configuration alone.

    Raises:
        UserError: if it cannot be loaded.
    """
    return int(_config_of(name).get_text_config(decoder=True).num_hidden_layers)


def _config_of(name: str) -> Any:
    from transformers import AutoConfig

    source, how = locate(base_of(name))
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False, **how)
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"backbone {name} has no configuration that can be loaded ({reason})") from None


def fingerprint_of(name: str) -> str | None:
    """The fingerprint of a backbone that is not loaded; None where only its weights in memory tell.

    Raises:
        UserError: if the embedded one has not been fetched.
    """
    return of_files(source_of(name))


def load_tokenizer(name: str, trust_remote_code: bool = False, **options: Any) -> Any:
    """The tokenizer of a backbone, named as for ``load_backbone``, with options of ``from_pretrained``.

    Raises:
        UserError: if it cannot be loaded.
    """
    from transformers import AutoTokenizer

    source, how = locate(name)
    if not how and not Path(source, "tokenizer_config.json").exists():
        source, how = locate(base_of(name))
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **how, **options)
    except Exception as error:
        raise UserError(
            f"backbone {name} has no tokenizer that can be loaded ({first_line(error)}); give a Hugging Face id, a "
            f"folder, or one of {', '.join(assets.MODELS)}"
        ) from None


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise UserError(f"device {device} cannot be used ({reason}); use auto, cpu, cuda, cuda:0 or split") from None
    return chosen


def computing_type(dtype: Dtype, device: torch.device) -> torch.dtype:
    """What a precision means on a device; ``auto`` is bfloat16 where it computes in it."""
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if _cpu_computes_bfloat16() else torch.float32


def _cpu_computes_bfloat16() -> bool:
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)
