"""Prompts as principal components of their mean and last hidden state."""

import torch
from torch import Tensor, nn


class Components(nn.Module):
    """Vectors ``[B, D]`` as principal components ``[B, components]`` of others, fixed once they are fitted.

    What tells prompts apart most, such as their task, comes first, and what a few thousand noisy labels cannot teach is
    left out. The first component has a variance of 1, the others less, so that they also count less.
    """

    center: Tensor
    matrix: Tensor

    def __init__(self, size: int, components: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("matrix", torch.zeros(size, components))

    def fit(self, vectors: Tensor) -> None:
        """Components of ``[Q, D]``; where Q is too few for all, the last are 0."""
        from sklearn.decomposition import PCA

        rows = vectors.double().numpy()
        deviation = rows.std(0) + 1e-6
        found = PCA(min(self.matrix.shape[1], *rows.shape), random_state=0).fit((rows - rows.mean(0)) / deviation)
        matrix = found.components_.T / deviation[:, None] / max(found.explained_variance_[0], 1e-12) ** 0.5
        self.center.copy_(torch.from_numpy(rows.mean(0)))
        self.matrix[:, : matrix.shape[1]] = torch.from_numpy(matrix)

    def forward(self, vectors: Tensor) -> Tensor:
        return (vectors - self.center) @ self.matrix
