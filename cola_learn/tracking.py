"""Weights & Biases, behind the few calls that the stages need. The one module that imports wandb."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any, Literal

from cola_learn.console import console
from cola_learn.errors import UserError, first_line

Mode = Literal["auto", "offline", "online", "disabled"]
PROJECT = "cola-learn"
_SECONDS_TO_CONNECT = 30


def resolve_mode(mode: Mode) -> Literal["offline", "online", "disabled"]:
    """``auto`` is online with a W&B API key in the environment, else offline."""
    if mode != "auto":
        return mode
    return "online" if os.environ.get("WANDB_API_KEY") else "offline"


class Tracker:
    """One W&B run of one stage, used as a context manager.

    Args:
        stage: ``label``, ``train`` or ``evaluate``; the run's job type.
        mode: where it goes. An offline run lies under ``folder/wandb`` and can be sent with ``wandb sync``.
        folder: the stage's output.
        config: what to show as the run's configuration.

    Raises:
        UserError: if an online run cannot be started.
    """

    def __init__(self, stage: str, mode: Mode, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self._wandb = wandb
        self._folder = folder
        os.environ.setdefault("WANDB_SILENT", "true")
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, x_disable_stats=True, init_timeout=_SECONDS_TO_CONNECT
        )

        def start(where: Literal["offline", "online", "disabled"]) -> Any:
            return wandb.init(
                project=PROJECT,
                job_type=stage,
                mode=where,
                dir=str(folder),
                config={key: _plain(value) for key, value in config.items()},
                settings=settings,
            )

        try:
            self.run = start(resolve_mode(mode))
        except wandb.errors.CommError as error:  # no server: what was asked for can be uploaded later
            reason = first_line(error)
            console.print(f"W&B cannot be reached ({reason}); the run is kept offline", soft_wrap=True)
            self.run = start("offline")
        except wandb.errors.Error as error:
            raise UserError(
                f"--tracking {mode}: W&B did not start ({first_line(error)}); "
                "log in with wandb login, or use --tracking offline"
            ) from None

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run.finish(exit_code=0 if kind is None else 1)
        folder = Path(self.run.dir).parent
        if self.run.settings.mode == "offline" and kind is None:
            console.print(
                f"W&B run kept offline; to upload it: wandb sync {quote(str(folder))}", style="dim", soft_wrap=True
            )

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers; with the same names over the steps they become curves."""
        self.run.log(dict(metrics), step=step)

    def summary(self, metrics: Mapping[str, Any]) -> None:
        """Set the run's final numbers."""
        self.run.summary.update(dict(metrics))

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        self.run.log({name: self._wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def curves(self, name: str, step: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Draw curves over a step of their own: one row of values a step, the first being step 1."""
        if rows:
            steps = list(range(1, len(rows) + 1))
            values = [[row[key] for row in rows] for key in rows[0]]
            plot = self._wandb.plot.line_series(steps, values, keys=list(rows[0]), title=name, xname=step)
            self.run.log({name: plot})

    def bars(self, name: str, label: str, values: Mapping[str, float]) -> None:
        """Draw one bar for each named value."""
        table = self._wandb.Table(columns=[label, "value"], data=[[key, float(value)] for key, value in values.items()])
        self.run.log({name: self._wandb.plot.bar(table, label, "value", title=name)})

    def lightning_logger(self) -> Any:
        """This run as a logger for Lightning's Trainer; None when tracking is disabled."""
        from lightning.pytorch.loggers import WandbLogger

        return None if self.run.disabled else WandbLogger(experiment=self.run, save_dir=str(self._folder))

    def histogram(self, name: str, values: Sequence[float]) -> None:
        self.run.log({name: self._wandb.Histogram(list(values))})

    def artifact(self, name: str, kind: str, paths: Iterable[Path]) -> None:
        """Attach files as a versioned artifact of the given kind."""
        artifact = self._wandb.Artifact(name, type=kind)
        for path in paths:
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool | dict | list | type(None)) else str(value)
