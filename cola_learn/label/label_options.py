"""Options of the commands of the label stage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cola_learn.command import GROUP
from cola_learn.label.plan import Plan, Resources, Responses
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.columns import Layout
from cola_learn.tracking import Mode, Wandb


@dataclass(frozen=True)
class LabelOptions:
    """Options of python -m cola_learn.label.

    Attributes:
        tasks: what to label, as task:split; a part of a split is written sciq:validation[:75%]. A task is the name of a
            benchmark (arc_easy, mmlu, text_python, ...), hub:ORG/NAME[:CONFIG], or lm_eval:NAME; a file of questions
            (JSONL, JSON, CSV, TSV or Parquet, also compressed) or a folder written by datasets' save_to_disk has no
            split. The embedded benchmarks have no train split, so use test.
        limit: label only this many questions of each task, sampled with the seed; default all.
        output: folder for the label store, or for one of each task; an unfinished run in it is resumed.
        backbone: embedded, a Hugging Face id such as Qwen/Qwen3-0.6B, or a folder.
        show_prompt: print the first prompt exactly as the model reads it, its options and the gold one; then exit.
        tracking: W&B online, offline or disabled; auto follows WANDB_MODE, else is online when logged in, else offline.
        wandb: project, entity, group, name, tags and notes of the W&B run.
        plan: what is searched.
        scoring: how chains are scored.
        resources: where it runs.
        layout: how a file is read.
        responses: who writes what follows prompts.
    """

    tasks: list[str] = field(default_factory=lambda: ["arc_easy:test"])
    limit: int | None = None
    output: Path = Path("runs/labels")
    backbone: str = "embedded"
    show_prompt: bool = False
    tracking: Mode = "auto"
    wandb: Wandb = field(default_factory=Wandb)
    plan: Plan = field(default_factory=Plan, metadata=GROUP)
    scoring: Scoring = field(default_factory=Scoring, metadata=GROUP)
    resources: Resources = field(default_factory=Resources, metadata=GROUP)
    layout: Layout = field(default_factory=Layout, metadata=GROUP)
    responses: Responses = field(default_factory=Responses, metadata=GROUP)


@dataclass(frozen=True)
class InspectOptions:
    """Options of python -m cola_learn.label inspect.

    Attributes:
        store: a label store, or the folder of those of several tasks.
        plot: SVG file for the heat map of single edits: mean change of margin by block of layers.
        chains: how many of the chains that are good for most questions to list.
    """

    store: Path
    plot: Path | None = None
    chains: int = 10


@dataclass(frozen=True)
class MergeOptions:
    """Options of python -m cola_learn.label merge.

    Attributes:
        stores: label stores made with the same settings on other questions, or partly the same ones.
        output: folder of the new store.
    """

    stores: list[Path]
    output: Path = Path("runs/merged")


@dataclass(frozen=True)
class VerifyOptions:
    """Options of python -m cola_learn.label verify.

    Attributes:
        store: a label store.
        limit: run the chains of this many questions again, drawn with the seed; default all.
        chains: good ones only, or all that were tried.
        device: as for label; other hardware than that of the run may differ in the last bits.
        seed: of the draw.
        reward: the dotted path of the reward, where it is one of your own.
    """

    store: Path
    limit: int | None = None
    chains: Literal["good", "all"] = "good"
    device: str = "auto"
    seed: int = 0
    reward: str | None = None


@dataclass(frozen=True)
class MenuOptions:
    """Options of python -m cola_learn.label menu.

    Attributes:
        labels: label stores to take chains from: searches (what covers most questions) and scans (what gains most).
        size: how many chains the menu has at most, the base chain included.
        compose: how many edits are put together, one after another, each the best of those that gain most by
            themselves, and once more of skips alone; every step is a chain of the menu. 0 composes nothing.
        clusters: put the questions into so many groups by what their prompts' hidden states are like (k-means), and
            compose for each group: for responses, which show too little one by one.
        compose_questions: how many questions of each store, or of each cluster, decide about compositions, by the mean
            log-probability of the gold answer.
        compose_edits: how many single edits, the best of all and the best of skips, are tried at every step.
        output: file for the menu, one chain a line.
        device: as for label.
    """

    labels: list[Path] = field(default_factory=list)
    size: int = 64
    compose: int = 6
    clusters: int = 1
    compose_questions: int = 50
    compose_edits: int = 16
    output: Path = Path("runs/menu.txt")
    device: str = "auto"
