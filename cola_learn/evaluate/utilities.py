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


def controller_utilities(controller: Controller, prompts: Sequence[Tensor]) -> Utilities:
    """A controller's utilities; where values decide, the network need not run again for another price.

    One that was trained without a price knows none: a hundred times what it saves is added to the log-probabilities.
    """
    if not controller.rule.priced:
        logprobs = controller.weigh_all(prompts).double().numpy()
        saved = numpy.array([1 - chain.depth / chain.num_layers for chain in controller.menu])
        return lambda price: logprobs + 100 * price * saved
    if controller.rule.decides == "gain":
        weighed = controller.weigh_all(prompts)
        return lambda price: controller.utilities(weighed, price).double().numpy()
    return cache(lambda price: controller.utilities(controller.weigh_all(prompts, price), price).double().numpy())
