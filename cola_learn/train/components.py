"""Prompts as principal components of their mean and last hidden state."""

import torch
from torch import Tensor, nn

_WITHIN = 0.99  # of the fitted prompts


class Components(nn.Module):
    """Vectors ``[B, D]`` as principal components ``[B, components]`` of others, fixed once they are fitted.

    What tells prompts apart most, such as their task, comes first, and what a few thousand noisy labels cannot teach is
    left out. The first component has a variance of 1, the others less, so that they also count less.

    Prompts unlike nearly all that were fitted on (in a chat template, say) are read as the average one: they get what
    suits most, not what a network makes of numbers that it has never seen. These are the ones farther from the mean
    than 99% of those fitted on, by Mahalanobis distance over the components.
    """

    center: Tensor
    matrix: Tensor
    deviations: Tensor
    reach: Tensor

    def __init__(self, size: int, components: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("matrix", torch.zeros(size, components))
        self.register_buffer("deviations", torch.ones(components))
        self.register_buffer("reach", torch.tensor(1e30))

    def fit(self, vectors: Tensor) -> None:
        """Components of ``[Q, D]``; where Q is too few for all, the last are 0."""
        from sklearn.decomposition import PCA

        rows = vectors.double().numpy()
        deviation = rows.std(0) + 1e-6
        found = PCA(min(self.matrix.shape[1], *rows.shape), random_state=0).fit((rows - rows.mean(0)) / deviation)
        matrix = found.components_.T / deviation[:, None] / max(found.explained_variance_[0], 1e-12) ** 0.5
        self.center.copy_(torch.from_numpy(rows.mean(0)))
        self.matrix[:, : matrix.shape[1]] = torch.from_numpy(matrix)
        read = (vectors - self.center) @ self.matrix
        self.deviations.copy_(read.std(0).clamp(min=1e-6))
        self.reach.copy_(self._distances(read).quantile(_WITHIN))

    def forward(self, vectors: Tensor) -> Tensor:
        read = (vectors - self.center) @ self.matrix
        return torch.where((self._distances(read) <= self.reach)[:, None], read, 0.0)

    def _distances(self, read: Tensor) -> Tensor:
        """Squared Mahalanobis distances from the mean, ``[B]``."""
        return ((read / self.deviations) ** 2).sum(1)
