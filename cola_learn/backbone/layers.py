"""A model's decoder layers: how to find them, their devices, and the arguments of their forward."""

import inspect
import sys
from typing import Any

import torch
from torch import nn

from cola_learn.errors import UserError


def position_limit(config: Any) -> int:
    """The longest sequence that a model of this configuration was made for."""
    text = config.get_text_config()
    found = (getattr(text, name, None) for name in ("max_position_embeddings", "max_target_positions"))
    return next((int(limit) for limit in found if limit), sys.maxsize)


def find_layers(model: Any, name: str) -> nn.ModuleList:
    """The one ModuleList of the text decoder that is as long as its configuration says it is deep."""
    depth = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = _lists_of(model, depth)
    if len(lists) > 1 and (decoder := model.get_decoder()) is not None:  # beside a vision tower of equal depth, say
        lists = _lists_of(decoder, depth)
    if len(lists) != 1:
        raise UserError(
            f"backbone {name}: found {len(lists)} lists of {depth} layers in {type(model).__name__}, "
            "need exactly one; only plain decoder-only models can be used"
        )
    return lists[0]


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes: what accelerate's hooks in it say, else where its first parameter is."""
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        for one in getattr(hook, "hooks", [hook]):
            if (place := getattr(one, "execution_device", None)) is not None:
                return torch.device(place)
    return next(module.parameters(), torch.empty(0)).device


def parameter_names(layer: nn.Module) -> list[str]:
    """Of what a layer's forward takes by position, the hidden state first."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(type(layer).forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in kinds][1:]


def _lists_of(module: nn.Module, length: int) -> list[nn.ModuleList]:
    return [child for child in module.modules() if isinstance(child, nn.ModuleList) and len(child) == length]
