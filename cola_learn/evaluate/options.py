"""What an evaluation can be told."""

from dataclasses import dataclass, field
from pathlib import Path

from cola_learn.backbone.load import Dtype
from cola_learn.label import MCTS, Plan, Resources, SearchMethod
from cola_learn.tracking import Mode


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of python -m cola_learn.evaluate.

    Attributes:
        controller: folder of an exported controller.
        labels: label store that it was trained on; the static chain is chosen on its questions.
        beside: folders of other exported controllers to compare it with.
        task: task of the held-out questions; default that of the labels.
        split: split of the held-out questions; none of them may be among the labels.
        limit: evaluate at most this many questions, drawn with the seed; default all.
        output: folder for report.html, report.json, questions.parquet and the searches; these are resumed.
        backbone: default the one that the controller was trained for.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: default that of the labels.
        search: method of the full search and of its luck control: --search.help NAME prints the settings of one.
        static_candidates: how many chains that did well in the labels are tried as static chain.
        static_questions: on how many labelled questions each of them is tried.
        trees: samples searched at the same time.
        cache_gib: memory for hidden states that chains share, in GiB; by default a share of what is free.
        seed: of every draw.
        tracking: W&B offline, online or disabled; auto is online with an API key, else offline.
    """

    controller: Path
    labels: Path
    beside: list[Path] = field(default_factory=list)
    task: str | None = None
    split: str = "validation"
    limit: int | None = None
    output: Path = Path("runs/evaluate")
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype | None = None
    search: SearchMethod = field(default_factory=MCTS)
    static_candidates: int = 16
    static_questions: int = 100
    trees: int = 32
    cache_gib: float | None = None
    seed: int = 0
    tracking: Mode = "auto"

    def __post_init__(self) -> None:
        Resources(trees=self.trees, cache_gib=self.cache_gib)
        Plan(seed=self.seed)
        for name in ("static_candidates", "static_questions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1")
