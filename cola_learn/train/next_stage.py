"""The command that evaluates what was just trained or exported."""

from pathlib import Path


def evaluate_command(controller: Path, labels: Path | None) -> list[object]:
    """The command for a controller trained on these labels, as ``next_command`` takes it; empty
    if what it would need is not there.

    Args:
        controller: where it is or will be.
        labels: a label store, or a folder of several, whose held-out questions lie in a folder ``held`` beside it.
    """
    if labels is None:
        return []
    if (labels / "manifest.json").exists():
        return ["python -m cola_learn.evaluate", "--labels", labels, "--controllers", controller]
    held = labels.parent / "held"
    if not held.is_dir():
        return []
    return ["python -m cola_learn.evaluate", "--labels", labels, "--held", held, "--controllers", controller]
