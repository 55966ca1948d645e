"""How others evaluate chains: the model's list of layers is rebuilt for every chain and the model runs as it is.

Every function takes the plain model of transformers and its tokenizer; see ``plain_model``.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from cola_learn import Backbone, Chain, Sample

Pair = tuple[Sample, Chain]
_ROWS_PER_FORWARD = 64


def per_option(model: Any, tokenizer: Any, pairs: Sequence[Pair]) -> list[int]:
    """Answers by one forward for every chain and option."""
    return [_answers(model, tokenizer, [sample], chain, 1)[0] for sample, chain in pairs]


def per_chain(model: Any, tokenizer: Any, pairs: Sequence[Pair]) -> list[int]:
    """Answers by one forward for every chain, the options padded to one length."""
    return [_answers(model, tokenizer, [sample], chain, _ROWS_PER_FORWARD)[0] for sample, chain in pairs]


def by_chain_group(model: Any, tokenizer: Any, pairs: Sequence[Pair]) -> list[int]:
    """Answers by one forward for all samples that ask for the same chain."""
    order = sorted(range(len(pairs)), key=lambda index: pairs[index][1].layers)
    answers = [0] * len(pairs)
    for chain, group in groupby(order, key=lambda index: pairs[index][1]):
        members = list(group)
        found = _answers(model, tokenizer, [pairs[index][0] for index in members], chain, _ROWS_PER_FORWARD)
        for index, answer in zip(members, found, strict=True):
            answers[index] = answer
    return answers


@torch.inference_mode()
def _answers(model: Any, tokenizer: Any, samples: Sequence[Sample], chain: Chain, rows_per_forward: int) -> list[int]:
    rows = []
    for sample in samples:
        for context, continuation in zip(sample.contexts, sample.continuations, strict=True):
            tokens = tokenizer.encode(context + continuation)
            rows.append((tokens, len(tokenizer.encode(context))))
    scores: list[float] = []
    with rebuilt(model, chain):
        for start in range(0, len(rows), rows_per_forward):
            scores += _scores(model, rows[start : start + rows_per_forward])
    answers = []
    for sample in samples:
        own, scores = scores[: len(sample.continuations)], scores[len(sample.continuations) :]
        answers.append(own.index(max(own)))
    return answers


def _scores(model: Any, rows: Sequence[tuple[list[int], int]]) -> list[float]:
    """Log-probability of the tokens behind the context of each row, in one padded forward."""
    longest = max(len(tokens) for tokens, _ in rows)
    ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens, _ in rows], device=model.device)
    mask = torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens, _ in rows])
    given = {"attention_mask": mask.to(model.device)} if len(rows) > 1 else {}
    logits: Tensor = model(input_ids=ids, use_cache=False, **given).logits
    scores = []
    for row, (tokens, start) in zip(logits, rows, strict=True):
        scored = row[start - 1 : len(tokens) - 1].float().log_softmax(-1)
        scores.append(float(scored.gather(1, ids.new_tensor(tokens[start:])[:, None]).double().sum()))
    return scores


@contextmanager
def rebuilt(model: Any, chain: Chain) -> Iterator[None]:
    """Within the block the model's own list of layers is the chain."""
    layers = model.model.layers
    model.model.layers = nn.ModuleList([layers[layer] for layer in chain.layers])
    model.config.num_hidden_layers = chain.depth
    try:
        yield
    finally:
        model.model.layers = layers
        model.config.num_hidden_layers = len(layers)


def plain_model(backbone: Backbone) -> Any:
    """A copy of the backbone's model as transformers loads it: without packed weights or another attention."""
    model = copy.deepcopy(backbone.model)
    for module in model.modules():
        vars(module).pop("forward", None)
    model.set_attn_implementation("sdpa")
    return model
