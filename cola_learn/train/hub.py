"""Exported controllers on the Hugging Face hub."""

import re
from pathlib import Path

from cola_learn.errors import UserError, first_line

_FILES = ("config.json", "model.safetensors", "README.md")


def fetched(controller: Path | str, revision: str | None = None) -> Path:
    """The folder of a controller: the one named, or that of a hub id ``ORG/NAME`` which is no folder here.

    Raises:
        UserError: if the hub has none of that name or is not reached.
    """
    folder = Path(controller)
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(controller)):
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(controller), revision=revision, allow_patterns=list(_FILES)))
    except Exception as error:  # whatever a network may do
        raise UserError(
            f"--controller {controller} is neither a folder here nor on the Hugging Face hub ({first_line(error)}); "
            "python -m cola_learn.export writes one"
        ) from None
