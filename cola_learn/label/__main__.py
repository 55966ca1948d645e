"""``python -m cola_learn.label``: search the best chains of training questions; ``... inspect`` and so on look after
the stores that it makes."""

import sys

from cola_learn.cli import run_command
from cola_learn.label import commands
from cola_learn.label.cross import CrossOptions, run_cross
from cola_learn.label.menu import MenuOptions, run_menu
from cola_learn.label.options import LabelOptions
from cola_learn.label.run import run_label

_COMMANDS = {
    "inspect": (commands.InspectOptions, commands.run_inspect, "Print what a label store holds.", ("store",)),
    "merge": (
        commands.MergeOptions,
        commands.run_merge,
        "Join label stores that were made with the same settings on different questions.",
        ("stores",),
    ),
    "verify": (
        commands.VerifyOptions,
        commands.run_verify,
        "Run stored chains again, each alone and with nothing kept, and compare with what is stored.",
        ("store",),
    ),
    "menu": (
        MenuOptions,
        run_menu,
        "Make a short list of chains: the best single edits, their best compositions, what covers most questions.",
        ("--labels",),
    ),
    "cross": (
        CrossOptions,
        run_cross,
        "Run every chain of a menu on every question of some tasks.",
        ("--menu", "--tasks"),
    ),
    "export": (commands.ExportOptions, commands.run_export, "Write labels in another project's form.", ("store",)),
    "import": (commands.ImportOptions, commands.run_import, "Make a label store of another's labels.", ("file",)),
}

if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in _COMMANDS:
        name = sys.argv.pop(1)
        options, run, about, positional = _COMMANDS[name]
        run_command(options, run, f"cola_learn.label {name}", about, positional)  # type: ignore[arg-type]
    else:
        run_command(
            LabelOptions,
            run_label,
            "cola_learn.label",
            "Search, for every question, chains of layers that answer it (Monte Carlo tree search), and store all "
            "that was tried with rewards. Ctrl-C is safe: the same command goes on. Example: "
            "python -m cola_learn.label --config configs/label/demo.yaml --limit 50. "
            f"Other commands: python -m cola_learn.label {' | '.join(_COMMANDS)} --help.",
        )
