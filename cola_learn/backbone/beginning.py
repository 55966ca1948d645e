"""The first layers on a batch of prompts, run once: the controller reads them, the chosen chains go on from them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from cola_learn.backbone.layers import find_layers

_KEYS_AND_VALUES = (DynamicLayer, DynamicSlidingWindowLayer)


class _Enough(Exception):
    """All that is wanted has been seen."""


@dataclass(frozen=True)
class Beginning:
    """What the first L layers of a model made of a batch.

    Attributes:
        states: before each of them and behind the last, L + 1 tensors ``[B, T, H]``.
        outputs: what each layer returned.
        slots: keys and values of each layer in the cache, ``[B, K, T, D]`` each; none without a cache.
        resumes: whether the model can go on from here: the cache has nothing but keys and values, those of all tokens.
    """

    states: tuple[Tensor, ...]
    outputs: tuple[Any, ...]
    slots: tuple[tuple[Tensor, ...], ...]
    resumes: bool

    @property
    def depth(self) -> int:
        """L."""
        return len(self.outputs)

    def prompts(self, layers: Sequence[int], attention_mask: Tensor) -> Iterator[Tensor]:
        """Hidden states of each prompt after some of the layers (0 is the embedding layer), without padding,
        ``[T_i, F, H]`` in bfloat16. Of several samples of a prompt the first is read."""
        read = torch.stack([self.states[depth].to(torch.bfloat16) for depth in layers], dim=2)
        each = len(read) // len(attention_mask)
        return (row[mask.bool()] for row, mask in zip(read[::each], attention_mask, strict=True))

    def given(self, layers: nn.ModuleList) -> Iterator[nn.Module]:
        """The first L of some layers, which once return what is here instead of running."""
        for place, (state, output, slot) in enumerate(zip(self.states[:-1], self.outputs, self.slots, strict=True)):
            yield _Given(layers[place], place, state, output, slot)


@torch.no_grad()
def run_beginning(model: PreTrainedModel, depth: int, call: Callable[[], Any]) -> Beginning:
    """Run the first ``depth`` layers of what ``call``, such as the model's ``generate``, begins with; it goes no
    further."""
    states: list[Tensor] = []
    outputs: list[Any] = []
    slots: list[tuple[Tensor, ...]] = []
    resumes = True

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])
        if len(states) > depth:
            raise _Enough

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        nonlocal resumes
        cache = _cache(args, kwargs)
        slot = cache.layers[len(outputs)] if cache is not None else None
        resumes &= slot is None or (type(slot) in _KEYS_AND_VALUES and slot.keys.shape[-2] == states[0].shape[1])
        slots.append((slot.keys, slot.values) if slot is not None and resumes else ())
        outputs.append(output)
        if len(outputs) == len(blocks):  # no layer is behind it
            states.append(output[0] if isinstance(output, tuple | list) else output)
            raise _Enough

    blocks = find_layers(model, type(model).__name__)
    hooks = [block.register_forward_pre_hook(before, with_kwargs=True) for block in blocks[: depth + 1]]
    hooks += [block.register_forward_hook(after, with_kwargs=True) for block in blocks[:depth]]
    try:
        call()
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return Beginning(tuple(states), tuple(outputs), tuple(slots), resumes)


class Around(nn.Module):
    """What stands in a model's list in the place of a layer, and has the layer's attributes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # such as the kind of its attention, which some models ask their layers for
            return getattr(super().__getattr__("layer"), name)


class _Given(Around):
    """A layer that, the first time it is given a known state, returns what it made of it before."""

    def __init__(self, layer: nn.Module, place: int, state: Tensor, output: Any, slot: tuple[Tensor, ...]) -> None:
        super().__init__(layer)
        self._place, self._slot = place, slot
        self._known: tuple[Tensor, Any] | None = (state, output)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self._known is None or not torch.equal(hidden, self._known[0]):
            return self.layer(hidden, *args, **kwargs)
        (_, output), self._known = self._known, None
        cache = _cache(args, kwargs)
        if cache is not None and self._slot:
            cache.update(*self._slot, self._place)
        return output


def _cache(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Cache | None:
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Cache)), None)


def unpadded(input_ids: Tensor, attention_mask: Tensor | None) -> Iterator[Tensor]:
    """The rows without padding, ``[T_i]`` each."""
    for index, row in enumerate(input_ids):
        yield row if attention_mask is None else row[attention_mask[index].bool()]


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts ``[T_i]`` as one batch, padded on the left, and its attention mask, ``[B, T]`` each."""
    mask = [torch.ones_like(row) for row in rows]
    ids, seen = (nn.utils.rnn.pad_sequence(each, True, padding_side="left") for each in (list(rows), mask))
    return ids, seen
