"""Controllers elsewhere: on the Hugging Face hub, and as artifacts of W&B."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cola_learn.assets import download
from cola_learn.errors import UserError, first_line
from cola_learn.files import read_json
from cola_learn.tracking import Artifact, artifact_name
from cola_learn.train.controller_config import ControllerConfig

_FILES = ("config.json", "model.safetensors", "generation_config.json", "README.md")

DOWNLOAD_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token")


def fetch_controller(
    controller: Path | str, revision: str | None = None, subfolder: str = "", **download_options: Any
) -> Path:
    """The folder of a controller: the one named, or that of a hub id ``ORG/NAME`` which is no folder here.

    Args:
        controller: folder or hub id.
        revision: on the hub.
        subfolder: of the folder, where the controller is.
        download_options: of ``huggingface_hub.snapshot_download``: ``token``, ``cache_dir``, ``local_files_only``, ...

    Raises:
        UserError: if the hub has none of that name or is not reached.
    """
    folder = download(Path(controller))
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(controller)):
        return folder / subfolder
    from huggingface_hub import snapshot_download

    files = [f"{subfolder}/{name}" if subfolder else name for name in _FILES]
    try:
        found = snapshot_download(str(controller), revision=revision, allow_patterns=files, **download_options)
        return Path(found) / subfolder
    except Exception as error:  # whatever a network may do
        raise UserError(
            f"controller {controller} is neither a folder here nor on the Hugging Face hub ({first_line(error)}); "
            "python -m cola_learn.export writes one"
        ) from None


def controller_files(folder: Path) -> list[Path]:
    """All that what a controller chooses depends on, in its folder."""
    return [folder / "config.json", folder / "model.safetensors"]


def controller_artifact(controller: Path | str) -> Artifact:
    """An exported controller for W&B."""
    folder = fetch_controller(controller)
    config = read_json(folder / "config.json", edited=True)["controller"]
    name = artifact_name("controller", config["objective"] or "imitation", config["backbone"])
    return Artifact(name, "controller", controller_files(folder), config)


def checkpoint_artifact(checkpoint: Path, config: ControllerConfig) -> Artifact:
    """A training checkpoint for W&B."""
    name = artifact_name("training", config.objective or "imitation", config.backbone)
    return Artifact(name, "checkpoint", [checkpoint], asdict(config))
