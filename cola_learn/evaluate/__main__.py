"""``python -m cola_learn.evaluate``: a controller against the plain model, controls and full search."""

import sys

from cola_learn.cli import run_command
from cola_learn.evaluate.found import FiguresOptions, TableOptions, run_figures, run_table
from cola_learn.evaluate.run import EvaluateOptions, run_evaluate

if __name__ == "__main__":
    if sys.argv[1:2] == ["figures"]:
        sys.argv.pop(1)
        about = "Draw what searches found: depths, transitions, layer use, of one label store or several."
        run_command(FiguresOptions, run_figures, "cola_learn.evaluate figures", about, ("--labels",))
    elif sys.argv[1:2] == ["table"]:
        sys.argv.pop(1)
        about = "Tabulate what searches found by task and kind of edit, beside what luck would find."
        run_command(TableOptions, run_table, "cola_learn.evaluate table", about, ("--labels",))
    elif sys.argv[1:2] == ["menu"]:
        from cola_learn.evaluate.menu import MenuEvaluateOptions, run_menu_evaluate  # scikit-learn is slow to import

        sys.argv.pop(1)
        about = "Compare policies that choose from one menu of chains, at equal depth, on stored scores of many tasks."
        run_command(MenuEvaluateOptions, run_menu_evaluate, "cola_learn.evaluate menu", about)
    else:
        run_command(
            EvaluateOptions,
            run_evaluate,
            "cola_learn.evaluate",
            "Measure a controller on held-out questions beside the plain model, the best static chain, its own "
            "choices for shuffled prompts, and oracles (full search with a luck control). Example: python -m "
            "cola_learn.evaluate --config configs/evaluate/demo.yaml --controller runs/demo/train/controller. "
            "Other commands: python -m cola_learn.evaluate figures | table | menu --help",
        )
