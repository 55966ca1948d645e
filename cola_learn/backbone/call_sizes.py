"""Batch sizes, in tokens, at which results are batch-invariant on a CPU.

CPU libraries choose their kernels by the number of rows of a product, and kernels round differently. Which sizes agree
to the last bit depends on the shapes of the model, the libraries and the processor, and has to be tried.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cola_learn.backbone.recording import Batch, Recording
from cola_learn.backbone.replay import Replay
from cola_learn.backbone.rows import Row

_STEP = 8
SIZES = tuple(range(_STEP, 257, _STEP))  # tokens of a call, on a CPU
_MIDDLE = 128  # what the others are compared with
_DRAWS = 500_000  # products of every matrix that are compared: one in 150,000 rounds differently
_ODD = (3, 5, 7, 9, 11, 13, 17, 21, 25, 29, 31, 37, 48)  # together 256 tokens


class CallSizes(NamedTuple):
    """Sizes that agree, rising, and whether a single thread comes to the same bits as the present number does."""

    sizes: tuple[int, ...]
    threads_agree: bool


@torch.inference_mode()
def call_sizes(replay: Replay, packing: Sequence[int | None]) -> CallSizes:
    """The sizes that agree for rows of this model packed along ``packing``.

    Short rows run in batches of several sizes through some layers and the head, and, since few differences in rounding
    get through a layer, random numbers run through one matrix of every shape.
    """
    rows = [Row.plain(tokens) for tokens in replay.probe_tokens(SIZES[-1] // _STEP, _STEP).tolist()]
    recordings = [replay.record(row) for row in rows]
    layers = sorted({0, replay.num_layers // 2, replay.num_layers - 1})
    linears = [module for layer in replay.layers for module in layer.modules() if type(module) is nn.Linear]
    matrices = {module.weight.shape: module for module in linears}
    draws = torch.Generator().manual_seed(0)
    products = [
        (module, torch.randn(SIZES[-1], shape[1], generator=draws).to(module.weight.dtype))
        for shape, module in matrices.items()
        for _ in range(-(-_DRAWS // (_MIDDLE * shape[0])))
    ]

    def through(members: list[Recording]) -> Iterator[Tensor]:
        """Hidden states of rows packed, after each of the layers."""
        batch, hidden = Batch(members, packing), torch.cat([recording.hidden for recording in members], 1)
        for layer in layers:
            hidden = replay.run_layer(layer, hidden, batch)
            yield hidden

    def found(size: int) -> Iterator[Tensor]:
        for module, numbers in products:
            yield module(numbers[:size])[:_MIDDLE]
        for hidden in through(recordings[: size // _STEP]):
            yield hidden[0, :_MIDDLE]
        yield replay.finish(hidden[0])[:_MIDDLE]

    def sizes(expected: list[Tensor]) -> tuple[int, ...]:
        def agrees(size: int) -> bool:
            return all(torch.equal(one, other[:size]) for one, other in zip(found(size), expected, strict=True))

        if not agrees(_MIDDLE):
            return ()
        fewer = [size for size in SIZES if size < _MIDDLE and agrees(size)]
        more = itertools.takewhile(agrees, range(_MIDDLE + _STEP, SIZES[-1] + 1, _STEP))
        return (*fewer, _MIDDLE, *more)

    def odd() -> Tensor:
        """Rows of odd lengths: attention may divide these otherwise among threads."""
        *_, last = through([replay.record(Row.plain(tokens[:length])) for length in _ODD])
        return last

    [tokens] = replay.probe_tokens(1, max(_ODD)).tolist()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # best is what other numbers of threads come to as well
    try:
        alone, odd_alone = list(found(_MIDDLE)), odd()
    finally:
        torch.set_num_threads(threads)
    found_sizes = sizes(alone)
    if found_sizes:
        return CallSizes(found_sizes, threads == 1 or torch.equal(odd(), odd_alone))
    return CallSizes(sizes(list(found(_MIDDLE))), False)
