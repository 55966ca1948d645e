"""What labels depend on beside the questions, the backbone and the scoring; and what they must not depend on."""

from dataclasses import dataclass, field
from typing import Literal

from cola_learn.backbone.options import Dtype
from cola_learn.chains import SearchSpace
from cola_learn.label.methods import MCTS, SearchMethod
from cola_learn.tasks.scoring import Scoring

Verify = Literal["auto", "good", "off"]


@dataclass(frozen=True)
class Plan:
    """What is searched.

    Attributes:
        search: MCTS (tree search, the default), RandomEdits, Beam, Greedy, Scan (every single edit), Menu (the chains
            of a file), or the dotted path of a SearchMethod of your own. --search.help NAME prints a method's settings,
            such as --search.simulations, the budget (50).
        space: which edits a chain may have.
        patience: stop a search whose shallowest good chain has stayed the same for so many simulations.
        luck: search for a wrong option too, at the same budget, to see how much of what is found is luck. The two
            searches share what they try, so it costs little.
        neighbours: how many chains one edit away from the shallowest good chain are tried at least, to see how robust
            it is; 0 leaves it to what the search came by.
        keep_scores: keep, for each chain, the score of every option, not only reward and margin.
        seed: of the draw of questions and of the searches.
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
class Resources:
    """Where it runs.

    Attributes:
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        trees: questions searched at the same time; more fill a larger chip. The labels do not depend on it.
        cache_gib: memory for hidden states that chains share, in GiB and for each worker; by default a quarter of the
            host's free memory or half of the GPU's. The labels do not depend on it.
        verify: run good chains again, alone and with nothing kept, before a label is stored: auto runs all of them
            where results depend on what shares a batch (GPUs) and one a question elsewhere; good always all; off none.
        workers: replicas of the backbone that share the questions: processes here, one a GPU where there are any, or
            Ray actors. The labels do not depend on it.
        executor: local (this machine) or ray (a Ray cluster; pip install 'cola-learn[ray]').
        ray_address: of a running cluster (auto finds it); by default a local one is started.
        worker_cpus: CPUs that Ray reserves for an actor; by default an equal share.
        worker_gpus: GPUs that Ray reserves for an actor; by default one where the cluster has any.
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
