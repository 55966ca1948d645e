"""How policies value each chain of a menu, at a price of depth."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy
from torch import Tensor

from cola_learn.label.score_matrix import Array
from cola_learn.train.controller import Controller

Utilities = Callable[[float], Array]
"""What a policy thinks of every (question, chain) at a price of depth, ``[Q, C]``; it takes the largest."""


def mean_utilities(members: Sequence[Utilities]) -> Utilities:
    return lambda price: numpy.mean([utilities(price) for utilities in members], axis=0)


Weigh = Callable[[float | None], Tensor]
"""What decides about every (question, chain) at a price of depth, default the controller's, ``[Q, C]``."""


def weighing(controller: Controller, prompts: Sequence[Tensor]) -> Weigh:
    """A controller's ``weigh_all`` of prompts, run once for each price."""
    return cache(lambda price: controller.weigh_all(prompts, price))


def controller_utilities(controller: Controller, weigh: Weigh) -> Utilities:
    """A controller's utilities; where values decide, the network need not run again for another price.

    One that was trained without a price knows none: a hundred times what it saves is added to the log-probabilities.
    """
    if not controller.rule.priced:
        saved = numpy.array([1 - chain.depth / chain.num_layers for chain in controller.menu])
        return lambda price: weigh(None).double().numpy() + 100 * price * saved
    if controller.rule.decides == "gain":
        return lambda price: controller.utilities(weigh(None), price).double().numpy()
    return lambda price: controller.utilities(weigh(price), price).double().numpy()
