"""``python -m cola_learn.export``: a training checkpoint as a folder that others can load."""

from cola_learn.cli import run_command
from cola_learn.infer.export import ExportOptions, run_export

if __name__ == "__main__":
    run_command(
        ExportOptions,
        run_export,
        "cola_learn.export",
        "Write the controller of a training checkpoint as config.json, model.safetensors and a model card. Example: "
        "python -m cola_learn.export --checkpoint runs/demo/train/best.ckpt --output checkpoints/arc-easy",
    )
