"""Rows of a padded batch, each with a chain of its own."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from cola_learn.backbone.apply_chain import apply_chain
from cola_learn.chains import Chain


def rows_of(options: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """The options for some rows: tensors with a dimension of the batch are taken apart."""
    size = len(options["input_ids"])

    def of_batch(value: Any) -> bool:
        return isinstance(value, Tensor) and value.dim() > 0 and len(value) == size

    return {name: value[rows.to(value.device)] if of_batch(value) else value for name, value in options.items()}


def generate_apart(
    model: PreTrainedModel, chains: Sequence[Chain], options: Mapping[str, Any], settings: GenerationConfig, why: str
) -> Tensor:
    """The model's ``generate`` for the rows of one chain after another.

    Args:
        model: generates.
        chains: of each row.
        options: of ``generate``, for all rows.
        settings: the generation config that counts.
        why: the option that needs a cache of the whole batch.

    Raises:
        ValueError: if more than tokens is asked for.
    """
    if options.get("return_dict_in_generate") or settings.return_dict_in_generate:
        raise ValueError(
            f"return_dict_in_generate is not supported with {why} and several chains; give one prompt, or chain="
        )
    written: dict[int, Tensor] = {}
    for own in dict.fromkeys(chains):
        rows = torch.tensor([row for row, other in enumerate(chains) if other == own])
        with apply_chain(model, own):
            found = model.generate(**rows_of(options, rows))
        each = len(found) // len(rows)
        for place, row in enumerate(rows.tolist()):
            written |= {row * each + index: found[place * each + index] for index in range(each)}
    return _joined([written[row] for row in sorted(written)], options, settings)


def generate_drafted(
    model: PreTrainedModel, chains: Sequence[Chain], options: Mapping[str, Any], settings: GenerationConfig
) -> Tensor:
    """The model's own ``generate``, token for token, with drafts by a chain of each row: transformers' assisted
    decoding, one row after another.

    Args:
        model: generates, and keeps of each draft what it would have written.
        chains: that draft.
        options: of ``generate``, for all rows.
        settings: the generation config that counts.

    Raises:
        ValueError: with options that assisted decoding does not take.
    """
    for name in ("num_beams", "num_return_sequences", "return_dict_in_generate", "prompt_lookup_num_tokens"):
        if options.get(name, getattr(settings, name, None)) not in (None, False, 1):
            raise ValueError(f"{name} is not supported with draft")
    written = []
    for row, chain in enumerate(chains):
        one = rows_of(options, torch.tensor([row]))
        drafter = {} if chain.is_base else {"assistant_model": draft_of(model, chain)}
        if one.get("attention_mask") is not None:  # assisted decoding takes no padding
            kept = one.pop("attention_mask")[0].bool()
            one["input_ids"] = one["input_ids"][:, kept]
        found = model.generate(**one, **drafter)[0]
        written.append(torch.cat([options["input_ids"][row], found[one["input_ids"].shape[1] :]]))
    return _joined(written, options, settings)


def draft_of(model: PreTrainedModel, chain: Chain) -> PreTrainedModel:
    """A model that runs a chain of another's layers and shares all its tensors."""
    draft = copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
    apply_chain(draft, chain)
    return draft


def _joined(rows: Sequence[Tensor], options: Mapping[str, Any], settings: GenerationConfig) -> Tensor:
    end = settings.pad_token_id if settings.pad_token_id is not None else settings.eos_token_id
    pad = options.get("pad_token_id", end[0] if isinstance(end, list) else end) or 0
    return nn.utils.rnn.pad_sequence(list(rows), True, pad)
