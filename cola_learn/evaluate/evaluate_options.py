"""Options of the commands of the evaluate stage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cola_learn.backbone.dtypes import Dtype
from cola_learn.label.plan import Plan, Resources
from cola_learn.rewards.scores import Measure
from cola_learn.search.method import SearchMethod
from cola_learn.search.methods import MCTS
from cola_learn.tracking import Mode, Wandb


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of python -m cola_learn.evaluate.

    Attributes:
        labels: training questions: a label store, or a folder of some. Static chains are chosen on these, and with
            --held all that is fitted.
        controllers: exported controllers; the first one is what the report is about. Those that differ in a number at
            the end of their names (seeds) also get a row with their mean.
        policies: policies of your own, by dotted path: each a Policy of cola_learn.evaluate.policies or, with --held, a
            Learner of cola_learn.evaluate.policies.
        tasks: held-out questions to run, task:split, such as arc_easy:validation or mmlu:test[:10%]; a file is named
            without a split. Labelled questions are refused. Default the labels' tasks, their validation split.
        limit: run only this many questions of each task, sampled with the seed; default all.
        held: held-out questions with stored scores (label --config menu) instead of running any: stores of the menu of
            --labels. Compares many policies at equal depth.
        measure: with --held, of responses labelled with --keep_scores: likelihood, fidelity or acceptance; default that
            of the labels.
        part: of the questions of --held: all, the blind fifth, or the open rest. Whoever tries many things looks at the
            open ones, and once, at the end, at the blind ones.
        depths: with --held, mean depths at which policies are compared, relative to the base chain. Each policy gets
            the lowest price of depth that reaches it on the training questions.
        learners: with --held, also fit ridge regression and a reader of the task.
        output: folder for report.html, report.json, report.md, questions.parquet and the searches, which are resumed.
        backbone: default that of the labels.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: default that of the labels.
        search: method of the search oracle and its luck control, as for label; --search.simulations is the budget.
        searched: label store of the held-out questions, or a folder of some, made before; they are not searched again.
        static_candidates: how many chains, the best in the labels, compete to be static chains.
        static_questions: labelled questions that each candidate is scored on.
        cost_questions: questions, one at a time, on which FLOPs and time of the policies are measured.
        trees: questions searched in parallel.
        workers: of the search, as for label: processes, one per GPU if there are GPUs, or Ray actors.
        executor: of the search: local, or ray for a Ray cluster.
        ray_address: address of a running Ray cluster, or auto to find it.
        cache_gib: prefix cache in GiB; default a share of free memory.
        reward: the dotted path of the reward of the labels, where it is one of your own.
        seed: random seed.
        tracking: W&B online, offline or disabled; auto follows WANDB_MODE, else is online when logged in, else offline.
        wandb: project, entity, group, name, tags and notes of the W&B run.
    """

    labels: Path
    controllers: list[Path] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    limit: int | None = None
    held: Path | None = None
    measure: Measure | None = None
    part: Literal["all", "open", "blind"] = "all"
    depths: list[float] = field(default_factory=lambda: [0.8, 0.85, 0.9, 0.95, 1.0])
    learners: bool = True
    output: Path = Path("runs/evaluate")
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype | None = None
    search: SearchMethod = field(default_factory=MCTS)
    searched: Path | None = None
    static_candidates: int = 16
    static_questions: int = 100
    cost_questions: int = 16
    trees: int = 32
    workers: int = 1
    executor: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    cache_gib: float | None = None
    reward: str | None = None
    seed: int = 0
    tracking: Mode = "auto"
    wandb: Wandb = field(default_factory=Wandb)

    def __post_init__(self) -> None:
        self.resources()
        Plan(seed=self.seed)
        for name in ("static_candidates", "static_questions", "cost_questions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.held is None and self.part != "all":
            raise ValueError(f"part {self.part} is of the questions of --held; give --held")
        if self.held is not None and (self.tasks or self.limit is not None or self.searched is not None):
            name = "tasks" if self.tasks else "searched" if self.limit is None else "limit"
            raise ValueError(f"{name} is for questions that are run; --held has scores of its own: give one of the two")

    def resources(self, dtype: Dtype = "auto") -> Resources:
        """Where the search runs, in the precision given unless another was asked for."""
        return Resources(
            device=self.device,
            dtype=self.dtype or dtype,
            trees=self.trees,
            cache_gib=self.cache_gib,
            workers=self.workers,
            executor=self.executor,
            ray_address=self.ray_address,
        )


@dataclass(frozen=True)
class CompareOptions:
    """Options of python -m cola_learn.evaluate compare.

    Attributes:
        evaluations: folders of evaluations of the same questions; the others are compared with the first.
        policies: which policies of each; default all but oracles.
        output: JSON file for the numbers.
        seed: of the bootstrap.
    """

    evaluations: list[Path]
    policies: list[str] = field(default_factory=list)
    output: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class RecipeOptions:
    """Options of python -m cola_learn.evaluate chains.

    Attributes:
        recipes: what to judge: chains such as "0-16 (17)x2 18-29", files of one chain a line, or mergekit's YAML of a
            passthrough merge of one model's own layers.
        tasks: questions and texts to run, task:split, or files, as for label.
        limit: of each task, sampled with the seed.
        controls: random recipes of the same form; at least as many as recipes are drawn.
        backbone: embedded, a Hugging Face id, or a folder.
        output: folder for the report and the scores; an unfinished run in it is resumed.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        workers: processes, one per GPU if there are GPUs.
        seed: of the questions, the random recipes and the halves.
    """

    recipes: list[str]
    tasks: list[str] = field(
        default_factory=lambda: [
            *("arc_easy:validation", "openbookqa:validation", "piqa:validation"),
            *("text_news:validation", "text_python:validation", "text_gsm8k:validation"),
        ]
    )
    limit: int | None = 100
    controls: int = 16
    backbone: str = "embedded"
    output: Path = Path("runs/recipes")
    device: str = "auto"
    dtype: Dtype = "auto"
    workers: int = 1
    seed: int = 0
