"""Weights & Biases, behind the few calls that the stages need. The one module that imports wandb."""

import contextlib
import netrc
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlparse

from cola_learn.console import console
from cola_learn.errors import UserError, first_line
from cola_learn.files import read_json, write_json

Mode = Literal["auto", "offline", "online", "disabled"]
Where = Literal["offline", "online", "disabled"]
WANDB = "wandb:"
PROJECT = "cola-learn"
_SECONDS_TO_CONNECT = 30
_ID = "wandb-run.json"


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases.

    Attributes:
        project: W&B project; default WANDB_PROJECT, else cola-learn.
        entity: W&B user or team; default WANDB_ENTITY, else your own.
        group: group of the run.
        name: name of the run.
        tags: tags of the run, such as "[demo, arc]".
        notes: notes on the run.
    """

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None


@dataclass(frozen=True)
class Artifact:
    """Files that one stage hands to the next. Equal files are one version, whoever logs them.

    Attributes:
        name: such as ``labels-arc_easy-embedded``.
        kind: ``labels``, ``checkpoint``, ``controller`` or ``evaluation``.
        files: what is in it.
        metadata: shown beside it.
    """

    name: str
    kind: str
    files: Sequence[Path]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def artifact_name(*parts: str) -> str:
    """Parts joined as a name that W&B takes; of a path its last part."""
    return "-".join(re.sub(r"[^\w.-]", "-", part.rstrip("/").rpartition("/")[2]) for part in parts)


def resolve_mode(mode: Mode) -> Where:
    """``auto`` is what ``WANDB_MODE`` says, else online when logged in to W&B, else offline."""
    if mode != "auto":
        return mode
    known: dict[str, Where] = {"online": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
    if (asked := os.environ.get("WANDB_MODE", "")) in known:
        return known[asked]
    return "online" if _logged_in() else "offline"


def _logged_in() -> bool:
    """Whether there is an API key in the environment, or where ``wandb login`` keeps it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    try:
        return host is not None and netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def fetch_artifact(source: str, root: Path) -> Path:
    """The folder below ``root`` with the files of ``wandb:ENTITY/PROJECT/NAME:ALIAS``.

    Raises:
        UserError: if there is no such artifact, or W&B is not reached.
    """
    import wandb

    name = source.removeprefix(WANDB)
    if not re.fullmatch(r"[^/:]+/[^/:]+/[^/:]+:[^/:]+", name):
        raise UserError(f"{source} names no artifact; write wandb:ENTITY/PROJECT/NAME:ALIAS")
    try:
        found = wandb.Api(timeout=_SECONDS_TO_CONNECT).artifact(name)
        return Path(found.download(root=str(root / found.digest)))
    except Exception as error:  # whatever a network may do
        raise UserError(f"{source} cannot be fetched from W&B: {first_line(error)}") from None


class Tracker:
    """One W&B run of one stage, used as a context manager; it starts when it is first needed.

    An interrupted stage goes on in its own run: the run's id is kept in the folder until the stage has ended well.

    Args:
        stage: ``label``, ``train``, ``export`` or ``evaluate``; the run's job type.
        mode: where it goes. An offline run lies under ``folder/wandb`` and can be sent with ``wandb sync``.
        folder: the stage's output.
        config: what to show as the run's configuration.
        wandb: project, name and so on.
        step: the metric that the others are drawn over.
    """

    def __init__(
        self,
        stage: str,
        mode: Mode,
        folder: Path,
        config: Mapping[str, Any],
        wandb: Wandb | None = None,
        step: str | None = None,
    ) -> None:
        self._stage, self._folder, self._config, self._step = stage, folder, config, step
        self._asked, self._mode = wandb or Wandb(), mode

    @cached_property
    def run(self) -> Any:
        """The W&B run.

        Raises:
            UserError: if an online run cannot be started.
        """
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        where = resolve_mode(self._mode)
        try:
            run = self._start(where)
        except wandb.errors.CommError as error:  # no server: what was asked for can be uploaded later
            console.print(f"W&B cannot be reached ({first_line(error)}); the run is kept offline", soft_wrap=True)
            run = self._start("offline")
        except wandb.errors.Error as error:
            raise UserError(
                f"--tracking {self._mode}: W&B did not start ({first_line(error)}); "
                "log in with wandb login, or use --tracking offline"
            ) from None
        if where != "disabled":
            write_json(self._folder / _ID, {"id": run.id})
            if self._step:
                run.define_metric(self._step)
                run.define_metric("*", step_metric=self._step)
        return run

    def _start(self, where: Where) -> Any:
        import wandb

        asked = {name: value or None for name, value in asdict(self._asked).items()}
        if not os.environ.get("WANDB_SWEEP_ID"):  # a sweep has a project of its own
            asked["project"] = asked["project"] or os.environ.get("WANDB_PROJECT") or PROJECT
        return wandb.init(
            **asked,
            job_type=self._stage,
            mode=where,
            dir=str(self._folder),
            config={key: _plain(value) for key, value in self._config.items()},
            id=None if where == "disabled" else self._interrupted(),
            resume="allow",
            settings=wandb.Settings(console="off", silent=True, init_timeout=_SECONDS_TO_CONNECT),
        )

    def _interrupted(self) -> str | None:
        """The id of the run that a stage stopped in this folder had, unless the environment names one."""
        if os.environ.get("WANDB_RUN_ID"):
            return None
        try:
            return str(read_json(self._folder / _ID)["id"])
        except (OSError, ValueError, KeyError):
            return None

    @property
    def started(self) -> bool:
        return "run" in vars(self)

    def __enter__(self) -> "Tracker":
        self.run  # noqa: B018
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run.finish(exit_code=0 if kind is None else 1)
        folder = Path(self.run.dir).parent
        if kind is None:
            (self._folder / _ID).unlink(missing_ok=True)
            if self.run.settings.mode == "offline":
                console.print(
                    f"W&B run kept offline; to upload it: wandb sync {quote(str(folder))}", style="dim", soft_wrap=True
                )

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Log numbers; with the same names over the steps they become curves."""
        self.run.log(dict(metrics))

    def summary(self, metrics: Mapping[str, Any]) -> None:
        """Set the run's final numbers."""
        self.run.summary.update(dict(metrics))

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        import wandb

        self.run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def curves(self, name: str, step: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Draw curves over a step of their own: one row of values a step, the first being step 1."""
        import wandb

        if rows:
            steps = list(range(1, len(rows) + 1))
            values = [[row[key] for row in rows] for key in rows[0]]
            plot = wandb.plot.line_series(steps, values, keys=list(rows[0]), title=name, xname=step)
            self.run.log({name: plot})

    def bars(self, name: str, label: str, values: Mapping[str, float]) -> None:
        """Draw one bar for each named value."""
        import wandb

        table = wandb.Table(columns=[label, "value"], data=[[key, float(value)] for key, value in values.items()])
        self.run.log({name: wandb.plot.bar(table, label, "value", title=name)})

    def histogram(self, name: str, values: Sequence[float]) -> None:
        import wandb

        self.run.log({name: wandb.Histogram(list(values))})

    def output(self, artifact: Artifact) -> None:
        """Log files as what this stage made."""
        self.run.log_artifact(_as_wandb(artifact))

    def input(self, artifact: Artifact) -> None:
        """Log files as what this stage read; W&B knows them again if another run made them."""
        found = _as_wandb(artifact)
        if self.run.settings.mode == "offline":  # wandb has no public call for it; one without this loses an arrow
            with contextlib.suppress(AttributeError, TypeError):
                self.run._log_artifact(found, is_user_created=True, use_after_commit=True)
        elif not self.run.disabled:
            self.run.use_artifact(found)

    def lightning_logger(self) -> Any:
        """This run as a logger for Lightning's Trainer; None when tracking is disabled."""
        if resolve_mode(self._mode) == "disabled":
            return None
        from lightning.fabric.loggers.logger import rank_zero_experiment
        from lightning.pytorch.loggers import WandbLogger

        tracker = self

        class Logger(WandbLogger):
            @property
            @rank_zero_experiment
            def experiment(self) -> Any:
                return tracker.run

        return Logger(save_dir=str(self._folder))


def _as_wandb(artifact: Artifact) -> Any:
    import wandb

    found = wandb.Artifact(
        artifact.name, type=artifact.kind, metadata={key: _plain(value) for key, value in artifact.metadata.items()}
    )
    for path in artifact.files:
        found.add_file(str(path))
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(each) for key, each in asdict(value).items()}
    return value if isinstance(value, int | float | str | bool | dict | list | type(None)) else str(value)
