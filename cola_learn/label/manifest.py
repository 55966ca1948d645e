"""The manifest of a label store: everything that its labels depend on."""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import SearchSpace
from cola_learn.errors import UserError
from cola_learn.files import as_value, digest, read_json, write_json
from cola_learn.label.parquet import label_files
from cola_learn.label.plan import Job, Plan, Responses
from cola_learn.rewards.prompts import Prompt
from cola_learn.rewards.reward import REWARDS, use_reward
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.method import SearchMethod
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question

FORMAT = 3
_LARGEST_BUDGET = 10_000_000


@dataclass(frozen=True)
class Identity:
    """Which backbone it is.

    Attributes:
        name: as the user gave it.
        fingerprint: of its weights and configuration.
        num_layers: N.
        dtype: of its weights.
        special_tokens: written before every prompt, as text.
    """

    name: str
    fingerprint: str
    num_layers: int
    dtype: Dtype
    special_tokens: str = ""

    def __post_init__(self) -> None:
        if self.num_layers < 1:
            raise ValueError(f"num_layers is {self.num_layers}")

    @classmethod
    def of(cls, backbone: Backbone) -> "Identity":
        return cls(
            backbone.name,
            backbone.fingerprint,
            backbone.num_layers,
            backbone.dtype_name,
            backbone.encoder.special_tokens,
        )


@dataclass(frozen=True)
class Source:
    """Where questions are from.

    Attributes:
        task, split: as the user named the task.
        layout: how a file was read, as far as its rows do not say.
        revision: of the dataset on the hub.
        responses: given with the prompts, or how the model wrote them.
    """

    task: str
    split: str
    layout: Layout = field(default_factory=Layout)
    revision: str = ""
    responses: Responses = field(default_factory=Responses)

    @property
    def title(self) -> str:
        """What it is called in reports."""
        own = ", responses of the model's own" if self.responses.own else ""
        return f"{self.task} {self.split}{own}"

    def questions(self) -> list[Question]:
        """All questions of the task, read as they were then.

        Raises:
            UserError: if they are not to be had, as responses are that the model wrote.
        """
        if self.responses.own:
            raise UserError(
                f"the responses that the model wrote to {self.task} are in questions.parquet, which is gone"
            )
        return load_task(self.task, self.split, layout=self.layout, revision=self.revision, dotted=False)


@dataclass(frozen=True)
class Searched:
    """A ``Plan`` as it was carried out.

    Attributes:
        method: name of the search method.
        settings: its own, with what is in files in the place of their paths.
        simulations: the most of one search.
        space, patience, luck, neighbours, keep_scores, seed: as in ``Plan``.
    """

    method: str
    settings: Mapping[str, Any]
    simulations: int
    space: SearchSpace = field(default_factory=SearchSpace)
    patience: int | None = None
    luck: bool = True
    neighbours: int = 4
    keep_scores: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.simulations <= _LARGEST_BUDGET:
            raise ValueError(f"simulations is {self.simulations}")

    @classmethod
    def of(cls, plan: Plan, num_layers: int) -> "Searched":
        """Raises:
        UserError: if a file of the search method cannot be read.
        """
        same = {one.name: getattr(plan, one.name) for one in fields(plan) if one.name != "search"}
        settings = json.loads(json.dumps(settings_by_content(plan.search), default=str))
        return cls(plan.search.name, settings, plan.budget(num_layers), **same)


@dataclass(frozen=True)
class Manifest:
    """What labels depend on; two stores with equal manifests may be joined.

    Attributes:
        model: the backbone.
        source: of the questions.
        scoring: how chains were judged; neither its reward nor its metric is auto. The prompt is the default one where
            questions have choices, and what ``bos`` came to are the model's special tokens.
        plan: what was searched.
        good_from: the least reward of a good chain.
        versions: of the libraries that computed it; stores may be joined over them.
    """

    model: Identity
    source: Source
    scoring: Scoring
    plan: Searched
    good_from: float = 1.0
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.scoring.reward not in REWARDS and "." not in self.scoring.reward:
            raise ValueError(f"reward is {self.scoring.reward!r}, none of {', '.join(REWARDS)} and no dotted path")
        if self.scoring.metric == "auto":
            raise ValueError("metric is 'auto'")

    @classmethod
    def of(
        cls,
        identity: Identity,
        job: Job,
        task: str,
        question: Question,
        layout: Layout | None = None,
        responses: Responses | None = None,
    ) -> "Manifest":
        """The manifest of a store that a job would make.

        Args:
            identity: of the job's backbone.
            job: what is asked for.
            task: as the user named it.
            question: one of the task's.
            layout: how a file was read.
            responses: given with the prompts, or how the model writes them.

        Raises:
            UserError: if a file of the search method cannot be read.
        """
        scoring = job.scoring.of([question])
        return cls(
            model=replace(identity, name=job.backbone),
            source=Source(task, question.split, layout or Layout(), question.revision, responses or Responses()),
            scoring=replace(scoring, bos="auto", prompt=scoring.prompt if question.open else Prompt()),
            plan=Searched.of(job.plan, identity.num_layers),
            good_from=use_reward(scoring.reward).good,
            versions={name: importlib.metadata.version(name) for name in ("cola-learn", "torch", "transformers")},
        )

    @classmethod
    def read(cls, folder: Path, named: str) -> "Manifest":
        """The manifest of a store's folder; ``named`` is what the user called it by, for messages.

        Raises:
            UserError: if there is none, or one that cannot be read.
        """
        try:
            values = read_json(folder / "manifest.json", edited=True)
            if values.get("format") != FORMAT:
                raise UserError(
                    f"{named} {folder} has format {values.get('format')}; this version of cola-learn reads format "
                    f"{FORMAT}: label again, or use the version that made it"
                )
            return as_value(cls, values)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{named} {folder} is not a label store (no manifest.json); make one with python -m cola_learn.label"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{named} {folder}: manifest.json cannot be read: {error}") from None

    def write(self, folder: Path) -> None:
        write_json(folder / "manifest.json", asdict(self))

    def load_backbone(self, named: str, backbone: str | None, device: str, dtype: Dtype) -> Backbone:
        """The frozen model that labels were made with, which writes the special tokens that they were made with.

        Args:
            named: what the user called the labels by, for messages.
            backbone: where it is; default where it was then.
            device, dtype: as for ``load_backbone``.

        Raises:
            UserError: if it is another model.
        """
        loaded = load_backbone(backbone or self.model.name, device, dtype)
        if loaded.fingerprint != self.model.fingerprint:
            raise UserError(
                f"{named} were made with backbone {self.model.name} ({self.model.fingerprint}), not {loaded.name} "
                f"({loaded.fingerprint})"
            )
        loaded.write_special_tokens(self.model.special_tokens, named)
        return loaded

    def difference(self, other: "Manifest") -> tuple[str, Any, Any] | None:
        """The first setting in which two manifests differ, with both values; None if their labels may be joined."""
        mine, others = _leaves(asdict(self)), _leaves(asdict(other))
        names = [name for name in mine | others if mine.get(name) != others.get(name)]
        first = next((name for name in names if not name.startswith("versions.")), None)
        return (first, mine.get(first), others.get(first)) if first else None


def _leaves(values: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Nested values by dotted name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _leaves(value, f"{within}{name}.") if isinstance(value, Mapping) and value else {within + name: value}
    return found


def settings_by_content(method: SearchMethod) -> dict[str, Any]:
    """The settings of a search method, with what is in files in the place of their paths.

    Raises:
        UserError: if a file cannot be read.
    """
    return {name: content_of(value) if isinstance(value, Path) else value for name, value in vars(method).items()}


def content_of(path: Path) -> str:
    """Digest of a file, or of the labels of a store: what a path holds counts, not where it lies."""
    return digest({}, *([path] if path.is_file() else label_files(path)))
