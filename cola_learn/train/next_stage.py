"""The command that evaluates what was just trained or exported."""

import re
from pathlib import Path

from cola_learn.label.store import LabelStore
from cola_learn.tasks.question_files import is_file
from cola_learn.tasks.questions import Kind


def evaluate_command(controller: Path, labels: Path | None) -> list[object]:
    """The command for a controller trained on these labels, as ``next_command`` takes it; empty
    if what it would need is not there.

    Args:
        controller: where it is or will be.
        labels: a label store, or a folder of several, whose held-out questions lie in a folder ``held`` beside it.
    """
    if labels is None:
        return []
    command: list[object] = ["python -m cola_learn.evaluate", "--labels", labels]
    manifests = [file.parent for file in (labels / "manifest.json", *labels.glob("*/manifest.json")) if file.exists()]
    tasks = dict.fromkeys(LabelStore.open(folder).manifest.source.task for folder in manifests)
    if (held := labels.parent / "held").is_dir() and labels not in manifests:
        return [*command, "--held", held, "--controllers", controller]
    parts = [re.fullmatch(r"(.+)\[:(\d+)%\]", task) for task in tasks]
    if all(parts) and parts:  # the first part of a file: the other is held out
        rest = [f"{part[1]}[{part[2]}%:]" for part in parts if part]
        return [*command, "--tasks", *rest, "--controllers", controller]
    if not tasks or any(is_file(task.partition("[")[0]) for task in tasks):
        return []
    return [*command, "--controllers", controller]


def infer_command(controller: Path, kind: Kind, price: float | None = None) -> list[object]:
    """The command that asks a question through a controller of this kind of questions, as ``next_command`` takes it."""
    at = [] if price is None else ["--price", f"{price:.3g}"]
    choices = [] if kind == "response" else ["--choices", "sun and water", "salt"]
    return ["python -m cola_learn.infer", "--controller", controller, *at, *choices, "What do plants need to grow?"]


def hold_out(controller: Path, labels: Path) -> str:
    """What to say where ``evaluate_command`` has none to give: a file needs questions that were not labelled."""
    return (
        "to measure it, give questions that were not labelled: python -m cola_learn.evaluate --tasks OTHER_FILE "
        f"--labels {labels} --controllers {controller}; or label a part, --tasks 'FILE[:80%]', and the rest is held out"
    )
