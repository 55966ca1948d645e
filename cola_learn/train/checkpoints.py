"""Lightning's checkpoints, written atomically and with checksums."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from cola_learn.console import console
from cola_learn.errors import first_line
from cola_learn.files import check_seal, seal_of, sealing, set_aside


class SealedCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint beside its place first, and its SHA-256 in a file of its own."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with sealing(Path(path)) as scratch:
            scratch.write_bytes(content.getvalue())

    def remove_checkpoint(self, path: Any) -> None:
        super().remove_checkpoint(path)
        seal_of(Path(path)).unlink(missing_ok=True)


def check_checkpoint(path: Path) -> None:
    """Read a checkpoint, and nothing in it that could be run.

    Raises:
        OSError, ValueError: if it is missing, damaged, or no checkpoint of a training.
    """
    check_seal(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a damaged archive makes torch raise
        raise ValueError(first_line(error)) from None
    if not isinstance(content, dict) or not {"state_dict", "loops", "hyper_parameters"} <= content.keys():
        raise ValueError("it is no checkpoint of python -m cola_learn.train")


def usable(path: Path) -> bool:
    """Whether there is a checkpoint that can be read; a damaged one is set aside, and said to be."""
    if not path.exists():
        return False
    try:
        check_checkpoint(path)
    except (OSError, ValueError) as error:
        console.print(f"{path} is damaged ({error}); kept as {set_aside(path).name}", soft_wrap=True)
        return False
    return True
