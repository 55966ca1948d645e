"""The W&B workspace of a project: a section for each stage, and what a controller costs against what it gives.

python -m examples.dashboard --dry_run
"""

import os
from dataclasses import dataclass
from typing import Any

from cola_learn.command import Command
from cola_learn.console import PlainConsole, console
from cola_learn.errors import UserError, first_line
from cola_learn.tracking import PROJECT


@dataclass(frozen=True)
class DashboardOptions:
    """Options of python -m examples.dashboard.

    Attributes:
        project: of W&B; default WANDB_PROJECT, else cola-learn.
        entity: user or team; default WANDB_ENTITY, else your own.
        name: of the workspace.
        dry_run: print what would be in it; needs no account.
    """

    project: str | None = None
    entity: str | None = None
    name: str = "cola-learn"
    dry_run: bool = False


@dataclass(frozen=True)
class Panel:
    """A plot.

    Attributes:
        y: metrics of its curves or bars; of a scatter plot one, a point a run.
        x: metric that curves are drawn over, or that points lie along; "" for bars.
        scatter: whether it has a point for each run.
    """

    y: tuple[str, ...]
    x: str = ""
    scatter: bool = False

    def __str__(self) -> str:
        kind = "points" if self.scatter else "curves" if self.x else "bars"
        return f"{kind:7} {', '.join(self.y)}{f' over {self.x}' if self.x else ''}"


_STEP = "trainer/global_step"
SECTIONS: dict[str, tuple[Panel, ...]] = {
    "trade-off": (
        Panel(("controller/accuracy",), "controller/depth", scatter=True),
        Panel(("controller/accuracy",), "controller/seconds", scatter=True),
        Panel(("base/accuracy", "static/accuracy", "controller/accuracy")),
    ),
    "label": (
        Panel(("found/corrected", "found/lucky"), "questions"),
        Panel(("found/base_accuracy", "found/shortened"), "questions"),
        Panel(("chains_per_second",), "questions"),
        Panel(("executor/layers_saved", "executor/cache_hit_rate", "executor/padding"), "questions"),
    ),
    "train": (
        Panel(("train/loss", "val/loss"), _STEP),
        Panel(("val/depth",), _STEP),
    ),
    "evaluate": (
        Panel(("static/difference", "controller/difference")),
        Panel(("controller/to_static", "controller/to_shuffled")),
        Panel(("static/flops", "controller/flops")),
        Panel(("static/seconds", "controller/seconds")),
        Panel(("search_oracle/corrected", "luck_control/corrected")),
    ),
}


def run_dashboard(options: DashboardOptions) -> None:
    """Make the workspace in a project, or print what would be in it.

    Raises:
        UserError: if wandb-workspaces is missing, or W&B refuses.
    """
    project = options.project or os.environ.get("WANDB_PROJECT") or PROJECT
    if options.dry_run:
        for name, panels in SECTIONS.items():
            PlainConsole(width=120).print("\n".join([name, *(f"  {panel}" for panel in panels)]), markup=False)
        console.print(f"for project {project}; without --dry_run it is made there")
        return
    try:
        import wandb
        from wandb_workspaces import workspaces
    except ImportError:
        raise UserError("the dashboard needs wandb-workspaces: pip install 'cola-learn[dashboard]'") from None
    try:
        entity = options.entity or os.environ.get("WANDB_ENTITY") or str(wandb.Api(timeout=30).default_entity)
        made = workspaces.Workspace(entity, project, options.name, [_section(*one) for one in SECTIONS.items()]).save()
    except Exception as error:  # whatever a network or a server may do
        raise UserError(f"the dashboard cannot be made ({first_line(error)}); wandb login, or --dry_run") from None
    console.print(f"dashboard   {made.url}", soft_wrap=True)


def _section(name: str, panels: tuple[Panel, ...]) -> Any:
    from wandb_workspaces import workspaces

    return workspaces.Section(name, [_panel(panel) for panel in panels], is_open=True)


def _panel(panel: Panel) -> Any:
    from wandb_workspaces.reports import v2

    if panel.scatter:
        summary = v2.SummaryMetric
        return v2.ScatterPlot(title=str(panel), x=summary(panel.x), y=summary(panel.y[0]))
    if panel.x:
        return v2.LinePlot(title=", ".join(panel.y), x=panel.x, y=list(panel.y))
    return v2.BarPlot(title=", ".join(panel.y), metrics=[v2.SummaryMetric(metric) for metric in panel.y])


if __name__ == "__main__":
    about = "Make a W&B workspace for a project: a section for each stage, and accuracy against depth and time."
    Command(DashboardOptions, run_dashboard, about)("examples.dashboard")
