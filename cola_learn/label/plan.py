"""Plan: the settings that labels depend on. Resources: those that they must not depend on. Job: all of a run."""

import math
from dataclasses import dataclass, field
from typing import Literal

from cola_learn.backbone.dtypes import Dtype
from cola_learn.chains import SearchSpace
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.methods import MCTS, SearchMethod

Verify = Literal["auto", "good", "off"]


@dataclass(frozen=True)
class Plan:
    """Search.

    Attributes:
        search: MCTS (tree search, the default), RandomEdits, Beam, Scan (every single edit), Menu (the chains
            of a file), or the dotted path of a SearchMethod of your own. --search.help NAME prints a method's settings,
            such as --search.simulations, the budget (50).
        space: which chains are allowed.
        patience: early stopping: end a search after this many simulations without a shallower correct chain.
        luck: also search for a wrong option with the same budget, to measure how much of what search finds is luck.
            The two searches share forward passes, so it costs little.
        neighbours: try at least this many chains one edit away from the shallowest correct chain, as a measure of its
            robustness; 0 tries none beyond the search's own.
        keep_scores: store the score of every option for each chain, not only reward and margin.
        seed: random seed for sampling questions and for search.
    """

    search: SearchMethod = field(default_factory=MCTS)
    space: SearchSpace = field(default_factory=SearchSpace)
    patience: int | None = None
    luck: bool = True
    neighbours: int = 4
    keep_scores: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is {self.patience}; give at least 1")
        if self.neighbours < 0:
            raise ValueError(f"neighbours is {self.neighbours}; give 0 or more")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; give 0 or more")

    def budget(self, num_layers: int) -> int:
        """The most simulations of one search.

        Raises:
            UserError: if the method's file cannot be read.
        """
        return self.search.budget(num_layers, self.space)


@dataclass(frozen=True)
class Responses:
    """Responses.

    Attributes:
        responses: given with the prompts, or own: the model writes them first, to tasks of any kind and to files of
            prompts alone; chains are measured by it.
        response_tokens: most tokens of an own response.
        temperature: at which own responses are drawn, with the seed; 0 writes greedily.
    """

    responses: Literal["given", "own"] = "given"
    response_tokens: int = 128
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.response_tokens < 1:
            raise ValueError(f"response_tokens is {self.response_tokens}; give at least 1")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; give 0 or more")
        if not self.own and (self.response_tokens, self.temperature) != (128, 0.0):
            raise ValueError("response_tokens and temperature are for the model's own responses; give --responses own")

    @property
    def own(self) -> bool:
        """Whether the model writes them."""
        return self.responses == "own"


@dataclass(frozen=True)
class Resources:
    """Hardware and speed.

    Attributes:
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        trees: questions searched in parallel in one process; raise it on a large GPU. Does not change the labels.
        cache_gib: prefix cache (hidden states shared by chains), GiB per worker; default a quarter of free host memory
            or half of free GPU memory. Does not change the labels.
        verify: re-run correct chains alone and uncached before a label is stored: good re-runs all of them, off none,
            auto all where results are not batch-invariant (GPUs) and one per question elsewhere.
        workers: replicas of the backbone: processes, one per GPU if there are GPUs, or Ray actors. Does not change the
            labels.
        executor: local, or ray for a Ray cluster (pip install 'cola-learn[ray]').
        ray_address: address of a running Ray cluster, or auto to find it; default starts a local one.
        worker_cpus: CPUs per Ray actor; default an equal share.
        worker_gpus: GPUs per Ray actor; default 1 if the cluster has GPUs.
    """

    device: str = "auto"
    dtype: Dtype = "auto"
    trees: int = 32
    cache_gib: float | None = None
    verify: Verify = "auto"
    workers: int = 1
    executor: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    worker_cpus: float | None = None
    worker_gpus: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("trees", 1), ("workers", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {least}")
        if self.cache_gib is not None and not 0 <= self.cache_gib < 2**20:
            raise ValueError(f"cache_gib is {self.cache_gib}, no amount of memory; give 0 to keep nothing, or more")
        if self.executor == "local":
            for name in ("ray_address", "worker_cpus", "worker_gpus"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is {getattr(self, name)}, but executor is local; it is for ray")
        if self.workers > 1 and self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is {self.device}, one place; with {self.workers} workers give auto, cpu or cuda")


@dataclass(frozen=True)
class Job:
    """All that a worker has to know to label questions.

    Attributes:
        backbone: embedded, a Hugging Face id such as Qwen/Qwen3-0.6B, or a folder.
        scoring: how chains are judged; its reward is not auto.
        plan: what is searched.
        resources: where it runs.
    """

    backbone: str
    scoring: Scoring
    plan: Plan
    resources: Resources = field(default_factory=Resources)
