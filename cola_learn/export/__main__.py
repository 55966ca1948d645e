"""``python -m cola_learn.export``: a controller or a static chain as a folder that others can load."""

from collections.abc import Sequence

from cola_learn.command import Command, run_stage
from cola_learn.export.export_options import ExportOptions

EXPORT = Command(
    ExportOptions,
    "cola_learn.export.controllers:run_export",
    "Write the controller of a training checkpoint, or the backbone with one static chain as an ordinary Hugging Face "
    "checkpoint.",
    examples=(
        "python -m cola_learn.export --checkpoint runs/demo/train/best.ckpt --output checkpoints/arc-easy",
        'python -m cola_learn.export --chain "0-17 20-29" --output runs/static',
        "python -m cola_learn.export --static runs/demo/evaluate --output runs/static",
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.export", EXPORT, {}, arguments)


if __name__ == "__main__":
    main()
