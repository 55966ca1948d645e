"""``python -m cola_learn.evaluate``: a controller against the plain model, controls and full search."""

from cola_learn.cli import run_command
from cola_learn.evaluate.run import EvaluateOptions, run_evaluate

if __name__ == "__main__":
    run_command(
        EvaluateOptions,
        run_evaluate,
        "cola_learn.evaluate",
        "Measure a controller on held-out questions beside the plain model, the best static chain, its own "
        "choices for shuffled prompts, and oracles (full search with a luck control). Example: python -m "
        "cola_learn.evaluate --config configs/evaluate/demo.yaml --controller runs/demo/train/controller",
    )
