"""The manifest of a label store: everything that its labels depend on."""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.dtypes import Dtype
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import SearchSpace
from cola_learn.errors import UserError
from cola_learn.files import as_value, digest, read_json, write_json
from cola_learn.label.parquet import label_files
from cola_learn.label.plan import Job
from cola_learn.rewards.prompts import Example, Prompt
from cola_learn.rewards.reward import REWARDS, use_reward
from cola_learn.rewards.scoring import Scoring
from cola_learn.search.method import SearchMethod
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Metric, Question, Template, Truncate

FORMAT = 2
_LARGEST_BUDGET = 10_000_000


@dataclass(frozen=True)
class Identity:
    """Which backbone it is."""

    fingerprint: str
    num_layers: int
    dtype: Dtype
    special_tokens: str = ""

    @classmethod
    def of(cls, backbone: Backbone) -> "Identity":
        return cls(backbone.fingerprint, backbone.num_layers, backbone.dtype_name, backbone.encoder.special_tokens)


@dataclass(frozen=True)
class Manifest:
    """What labels depend on; two stores with equal manifests may be joined.

    Attributes:
        backbone, fingerprint, num_layers, dtype: the model, as the user named it and as it is.
        task, split, template, metric: what was asked and how it was scored.
        space, search: of the search: its space, and its method's name with that method's settings.
        seed: of the search.
        luck, neighbours: which controls were run beside it.
        patience: after how many simulations without change a search was stopped.
        scores: whether the score of every option is kept for each chain.
        reward, good_from: how chains were judged, and the least reward of a good one.
        prompt: how open questions were put; None for questions with choices.
        special_tokens: written before every prompt, as text; stores that do not say were made without.
        truncate: whether prompts that were too long were cut.
        layout: how a file of questions was read, as far as its rows do not say.
        revision: of the dataset on the hub that the questions are from.
        versions: of the libraries that computed it; stores may be joined over them.
    """

    backbone: str
    fingerprint: str
    num_layers: int
    dtype: Dtype
    task: str
    split: str
    template: Template
    metric: Metric
    space: Mapping[str, Any]
    search: Mapping[str, Any]
    seed: int
    luck: bool = True
    neighbours: int = 0
    scores: bool = False
    patience: int | None = None
    reward: str = "choices"
    good_from: float = 1.0
    prompt: Mapping[str, Any] | None = None
    special_tokens: str = ""
    truncate: Truncate = "no"
    layout: Mapping[str, Any] = field(default_factory=dict)
    revision: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.num_layers < 1:
            raise ValueError(f"num_layers is {self.num_layers}")
        budget = self.search.get("simulations", 1)
        if not isinstance(budget, int) or not 1 <= budget <= _LARGEST_BUDGET:
            raise ValueError(f"search.simulations is {budget!r}")
        if self.reward not in REWARDS and "." not in self.reward:
            raise ValueError(f"reward is {self.reward!r}, none of {', '.join(REWARDS)} and no dotted path")
        for name, read in (("space", self._space), ("prompt", self._prompt), ("layout", self._layout)):
            try:
                read()
            except (TypeError, ValueError, AttributeError, UserError) as error:
                raise ValueError(f"{name} cannot be read: {error}") from None

    @classmethod
    def of(
        cls, identity: Identity, job: Job, task: str, question: Question, layout: Layout | None = None
    ) -> "Manifest":
        """The manifest of a store that a job would make.

        Args:
            identity: of the job's backbone.
            job: what is asked for.
            task: as the user named it.
            question: one of the task's.
            layout: how a file was read.

        Raises:
            UserError: if a file of the search method cannot be read.
        """
        scoring, plan = job.scoring.of([question]), job.plan
        settings = settings_by_content(plan.search)
        assert scoring.metric != "auto"
        return cls(
            backbone=job.backbone,
            fingerprint=identity.fingerprint,
            num_layers=identity.num_layers,
            dtype=identity.dtype,
            task=task,
            split=question.split,
            template=scoring.template,
            metric=scoring.metric,
            space=asdict(plan.space),
            search={"method": plan.search.name, **settings, "simulations": plan.budget(identity.num_layers)},
            seed=plan.seed,
            luck=plan.luck,
            neighbours=plan.neighbours,
            scores=plan.keep_scores,
            patience=plan.patience,
            reward=scoring.reward,
            good_from=use_reward(scoring.reward).good,
            prompt=_plain(scoring.prompt) if question.open else None,
            special_tokens=identity.special_tokens,
            truncate=scoring.truncate,
            layout=layout.settings() if layout else {},
            revision=question.revision,
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
            if not values.get("wordings"):  # of earlier versions
                values.pop("wordings", None)
            return as_value(cls, values)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{named} {folder} is not a label store (no manifest.json); make one with python -m cola_learn.label"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{named} {folder}: manifest.json cannot be read: {error}") from None

    def write(self, folder: Path) -> None:
        write_json(folder / "manifest.json", asdict(self))

    @cached_property  # asked for each question by some
    def scoring(self) -> Scoring:
        """How chains were judged; for the special tokens, see ``write_special_tokens``."""
        return Scoring(self.template, self.metric, self.reward, self._prompt(), truncate=self.truncate)

    def load_backbone(self, named: str, backbone: str | None, device: str, dtype: Dtype) -> Backbone:
        """The frozen model that labels were made with, which writes the special tokens that they were made with.

        Args:
            named: what the user called the labels by, for messages.
            backbone: where it is; default where it was then.
            device, dtype: as for ``load_backbone``.

        Raises:
            UserError: if it is another model.
        """
        loaded = load_backbone(backbone or self.backbone, device, dtype)
        if loaded.fingerprint != self.fingerprint:
            raise UserError(
                f"{named} were made with backbone {self.backbone} ({self.fingerprint}), not {loaded.name} "
                f"({loaded.fingerprint})"
            )
        loaded.write_special_tokens(self.special_tokens, named)
        return loaded

    def questions(self) -> list[Question]:
        """All questions of the task, read as they were then.

        Raises:
            UserError: if they are not to be had.
        """
        return load_task(self.task, self.split, layout=self._layout(), revision=self.revision, dotted=False)

    @property
    def search_space(self) -> SearchSpace:
        return self._space()

    def _prompt(self) -> Prompt:
        values = dict(self.prompt or {})
        values["examples"] = tuple(Example(**example) for example in values.get("examples", ()))
        return as_value(Prompt, asdict(Prompt(**values)))

    def _space(self) -> SearchSpace:
        return as_value(SearchSpace, self.space)

    def _layout(self) -> Layout:
        return as_value(Layout, self.layout)

    def difference(self, other: "Manifest") -> tuple[str, Any, Any] | None:
        """The first setting in which two manifests differ, with both values; None if their labels may be joined."""
        mine, others = asdict(self), asdict(other)
        names = [name for name in mine if name != "versions" and mine[name] != others[name]]
        return (names[0], mine[names[0]], others[names[0]]) if names else None


def _plain(prompt: Prompt) -> dict[str, Any]:
    """A prompt as JSON holds it; template options only where there are some, as stores without them were written."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(prompt)))
    return values if values["template_options"] else {key: values[key] for key in values if key != "template_options"}


def settings_by_content(method: SearchMethod) -> dict[str, Any]:
    """The settings of a search method, with what is in files in the place of their paths.

    Raises:
        UserError: if a file cannot be read.
    """
    return {name: content_of(value) if isinstance(value, Path) else value for name, value in vars(method).items()}


def content_of(path: Path) -> str:
    """Digest of a file, or of the labels of a store: what a path holds counts, not where it lies."""
    return digest({}, *([path] if path.is_file() else label_files(path)))
