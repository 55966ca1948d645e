"""``python -m cola_learn.label``: search the best chains of training questions."""

from cola_learn.cli import run_command
from cola_learn.label.options import LabelOptions
from cola_learn.label.run import run_label

if __name__ == "__main__":
    run_command(
        LabelOptions,
        run_label,
        "cola_learn.label",
        "Search, for every question, chains of layers that answer it (Monte Carlo tree search), and store all "
        "that was tried with rewards. Ctrl-C is safe: the same command goes on. Example: "
        "python -m cola_learn.label --config configs/label/demo.yaml --limit 50",
    )
