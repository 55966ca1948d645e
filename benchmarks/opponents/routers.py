"""Routers of other projects, rebuilt for comparison: Dr.LLM's per-layer routers and PoLar's segment predictor.

Both decide layer by layer what becomes of it. Here both read the controller's prompt features (Dr.LLM's read the hidden
state in front of each layer while the model runs), learn from the best chain of a menu for each prompt, and choose the
chain of the menu that they find most probable.

    python -m cola_learn.evaluate --config configs/evaluate/menu.yaml --controllers checkpoints/menu \\
        --policies benchmarks.opponents.routers.DRLLM benchmarks.opponents.routers.POLAR
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from cola_learn.chains import Chain
from cola_learn.evaluate.policies import Learner
from cola_learn.label.score_matrix import Array, ScoreMatrix
from cola_learn.train.batches import pad_features

SKIP, ONCE, REPEAT = range(3)
_WINDOWS = 8


def layer_classes(chain: Chain) -> list[int]:
    """Of every layer: skipped, run once, or repeated."""
    return [min(2, chain.layers.count(layer)) for layer in range(chain.num_layers)]


def boundaries(classes: Sequence[int]) -> list[float]:
    """1 where a segment of layers of one class begins."""
    return [float(place == 0 or one != classes[place - 1]) for place, one in enumerate(classes)]


class LayerRouters(nn.Module):
    """A bottleneck MLP for every layer, on the prompt's hidden states averaged in eight windows, to three classes;
    focal loss with weights by effective numbers (Dr.LLM, arXiv 2510.12773)."""

    def __init__(self, size: int, num_layers: int, width: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.down = nn.Parameter(torch.randn(num_layers, size, width) * size**-0.5)
        self.up = nn.Parameter(torch.randn(num_layers, width, 3) * width**-0.5)

    def forward(self, features: Tensor, padding: Tensor, chains: Tensor) -> Tensor:
        """Log-probability ``[B, C]`` of chains, given as classes ``[C, N]``, for prompts ``[B, T, F, H]``."""
        return _of_classes(self.classes(features, padding), chains)

    def classes(self, features: Tensor, padding: Tensor) -> Tensor:
        """Log-probabilities of the classes of every layer, ``[B, N, 3]``."""
        windows = self.norm(_windows(features.flatten(2).float(), padding))
        hidden = functional.gelu(torch.einsum("bwh,lhk->bwlk", windows, self.down))
        return torch.einsum("bwlk,lkc->bwlc", hidden, self.up).mean(1).log_softmax(-1)

    def loss(self, features: Tensor, padding: Tensor, best: Tensor, weights: Tensor) -> Tensor:
        """Focal loss for the best chains' classes ``[B, N]`` with class weights ``[3]``."""
        chosen = self.classes(features, padding).gather(2, best[:, :, None])[:, :, 0]
        return -(weights[best] * (1 - chosen.exp()) ** 2 * chosen).mean()


class SegmentPredictor(nn.Module):
    """Queries, one a layer, attend to the prompt's tokens; heads say where segments begin and what becomes of a layer
    (PoLar, arXiv 2606.06574)."""

    def __init__(self, size: int, num_layers: int, width: int = 64) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width))
        self.queries = nn.Parameter(torch.randn(num_layers, width) * 0.1)
        self.block = nn.TransformerDecoderLayer(width, 4, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.boundary = nn.Linear(width, 1)
        self.operation = nn.Linear(width, 3)

    def forward(self, features: Tensor, padding: Tensor, chains: Tensor) -> Tensor:
        """Log-probability ``[B, C]`` of chains, given as classes ``[C, N]``, for prompts ``[B, T, F, H]``."""
        operations, begins = self._heads(features, padding)
        marks = torch.tensor([boundaries(row) for row in chains.tolist()])
        return _of_classes(operations, chains) + _of_marks(begins, marks)

    def loss(self, features: Tensor, padding: Tensor, best: Tensor, weights: Tensor) -> Tensor:
        """Cross-entropies of both heads for the best chains' classes ``[B, N]``; ``weights`` is not used."""
        operations, begins = self._heads(features, padding)
        marks = torch.tensor([boundaries(row) for row in best.tolist()])
        said = functional.nll_loss(operations.flatten(0, 1), best.flatten())
        return said + functional.binary_cross_entropy_with_logits(begins, marks)

    def _heads(self, features: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.read(features.flatten(2).float())
        states = self.block(self.queries.expand(len(memory), -1, -1), memory, memory_key_padding_mask=padding)
        return self.operation(states).log_softmax(-1), self.boundary(states)[:, :, 0]


Router = LayerRouters | SegmentPredictor


def fit_router(
    router: Router,
    prompts: Sequence[Tensor],
    best: Sequence[Chain],
    epochs: int = 4,
    seed: int = 0,
) -> None:
    """Train on the best chain of each prompt ``[T, F, H]``."""
    torch.manual_seed(seed)
    classes = torch.tensor([layer_classes(chain) for chain in best])
    counts = torch.bincount(classes.flatten(), minlength=3).clamp(min=1)
    effective = (1 - 0.999) / (1 - 0.999**counts)
    weights = 3 * effective / effective.sum()
    optimizer = torch.optim.AdamW(router.parameters(), 1e-3, weight_decay=0.05)
    for _ in range(epochs):
        for rows in torch.randperm(len(prompts)).split(64):
            loss = router.loss(*pad_features([prompts[row] for row in rows]), classes[rows], weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.inference_mode()
def route(router: Router, prompts: Sequence[Tensor], menu: Sequence[Chain]) -> Tensor:
    """Log-probability of every chain of the menu for every prompt, ``[Q, C]``."""
    chains = torch.tensor([layer_classes(chain) for chain in menu])
    router.eval()
    parts = [router(*pad_features(prompts[start : start + 64]), chains) for start in range(0, len(prompts), 64)]
    return torch.cat(parts)


def _learned(kind: type[Router], prompts: Sequence[Tensor], table: ScoreMatrix, others: Sequence[Tensor]) -> Array:
    torch.manual_seed(0)
    router = kind(prompts[0].shape[1] * prompts[0].shape[2], table.chains[0].num_layers)
    fit_router(router, prompts, [table.chains[index] for index in table.soft.argmax(1)])
    return route(router, others, table.chains).double().numpy()


DRLLM = Learner("drllm", partial(_learned, LayerRouters), scale=500.0)
POLAR = Learner("polar", partial(_learned, SegmentPredictor), scale=500.0)


def _of_classes(logprobs: Tensor, chains: Tensor) -> Tensor:
    """Of classes ``[B, N, 3]``, the sum for each chain ``[C, N]``: ``[B, C]``."""
    return torch.einsum("bnk,cnk->bc", logprobs, functional.one_hot(chains, 3).to(logprobs.dtype))


def _of_marks(logits: Tensor, marks: Tensor) -> Tensor:
    """Log-probability of each row of marks ``[C, N]`` under independent logits ``[B, N]``: ``[B, C]``."""
    return functional.logsigmoid(logits) @ marks.T + functional.logsigmoid(-logits) @ (1 - marks).T


def _windows(states: Tensor, padding: Tensor) -> Tensor:
    """Means over eight windows of the real tokens: ``[B, T, H]`` to ``[B, 8, H]``."""
    real = (~padding).to(states.dtype)
    places = (real.cumsum(1) - 1) / real.sum(1, keepdim=True)
    window = (places * _WINDOWS).long().clamp(0, _WINDOWS - 1)
    share = functional.one_hot(window, _WINDOWS).to(states.dtype) * real[:, :, None]
    return torch.einsum("btw,bth->bwh", share, states) / share.sum(1).clamp(min=1)[:, :, None]
