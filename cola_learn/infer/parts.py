"""A controller with the backbone and the tokenizer that belong to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from cola_learn.backbone.fingerprint import changed_weight, of_files, of_memory
from cola_learn.backbone.layers import find_layers
from cola_learn.backbone.load import load_model, load_tokenizer, source_of
from cola_learn.errors import UserError
from cola_learn.train.controller import Controller


def load_parts(
    folder: Path,
    backbone: str | Path | PreTrainedModel | None,
    tokenizer: Any,
    revision: str | None,
    hub: Mapping[str, Any],
    options: Mapping[str, Any],
) -> tuple[PreTrainedModel, Controller, Any]:
    """The model that a controller was trained for, the controller, and a tokenizer.

    Args:
        folder: of the exported controller; where it has a generation config, that is the model's from now on.
        backbone: hub id, folder, a loaded model, or a name of ours; default the one that the controller names.
        tokenizer: default the one that lies beside the backbone.
        revision: of the backbone on the hub.
        hub: options of ``from_pretrained`` for model and tokenizer.
        options: for the model alone.

    Raises:
        UserError: if either cannot be loaded, or they do not belong together.
    """
    controller = Controller.from_pretrained(folder)
    if isinstance(backbone, PreTrainedModel):
        model, name = backbone, str(backbone.config.name_or_path)
    else:
        name = str(backbone or controller.config.backbone)
        hub = {**hub, "revision": revision} if revision else hub
        model = load_model(name, **hub, **options)
    source = source_of(name)
    if tokenizer is None and source:
        tokenizer = load_tokenizer(name, **hub)
    fingerprint = of_files(source) or of_memory(model, tokenizer)
    controller.config.check_backbone(len(find_layers(model, name)), fingerprint, name)
    if model is backbone and (weight := changed_weight(model, source)):
        raise UserError(
            f"{weight} of the loaded backbone is not what it is in {name}, which the controller was trained for; "
            "ColaForCausalLM(backbone, Controller.from_pretrained(...)) takes it all the same"
        )
    if model is not backbone and (folder / GENERATION_CONFIG_NAME).exists():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval(), controller.to(model.device), tokenizer
