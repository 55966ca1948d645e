"""The interface of judges, which score chains on samples, and the base of those that run a backbone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol, Self

from torch import Tensor

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Usage
from cola_learn.chains import Chain
from cola_learn.rewards.scores import Scores
from cola_learn.tasks.questions import Sample


class Judge(Protocol):
    """What scores chains on open samples."""

    @property
    def num_layers(self) -> int:
        """N of the backbone."""

    def open(self, sample: Sample) -> None:
        """Make a sample ready.

        Raises:
            UserError: if it is too long for the model.
        """

    def close(self, key: str) -> None:
        """Drop an open sample and all that is kept for it."""

    def score(self, requests: Sequence[tuple[str, Chain]]) -> Sequence[Scores]:
        """Scores of each (key of an open sample, chain), in request order."""


class ModelJudge(ABC):
    """A ``Judge`` that runs a backbone.

    Attributes:
        backbone: what it runs.
        provisional: whether a good reward stands only once ``reference`` has found it too.
    """

    provisional: ClassVar[bool] = False

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @property
    def num_layers(self) -> int:
        """N of the backbone."""
        return self.backbone.num_layers

    @property
    def usage(self) -> Usage:
        """What its layers cost so far; nothing where this is not counted."""
        return Usage()

    @property
    def ungraded(self) -> int:
        """Written answers that could not be graded so far, and counted as wrong."""
        return 0

    @abstractmethod
    def alone(self) -> Self:
        """A judge of the same kind that keeps nothing between calls."""

    def reference(self) -> "ModelJudge":
        """The judge that stored rewards must agree with: alone and, where this one only verifies answers, writing them
        too."""
        return self.alone()

    @abstractmethod
    def open(self, sample: Sample) -> None:
        """Make a sample ready for ``score``, until ``close``.

        Raises:
            UserError: if it is too long for the model.
        """

    @abstractmethod
    def close(self, key: str) -> None:
        """Drop an open sample and all that is kept for it."""

    def read_prompt(self, key: str, layers: Sequence[int]) -> Tensor | None:
        """Hidden states of the prompt of an open sample after some numbers of layers (0 is the embedding layer),
        ``[T, F, H]`` in bfloat16 on the CPU: what a controller reads. Chains that begin with these layers and are
        scored next go on from there. None where the sample's first row does not begin with its prompt."""
        return None

    @abstractmethod
    def score(self, requests: Sequence[tuple[str, Chain]]) -> Sequence[Scores]:
        """Scores of each (key of an open sample, chain), in request order."""

    def run(self, key: str, chain: Chain) -> None:
        """Compute what a chain costs on an open sample, nothing that it is compared with."""
        self.score([(key, chain)])
