"""``python -m cola_learn.label``: search the best chains of training questions; ``... inspect`` and so on look after
the stores that it makes."""

from collections.abc import Sequence

from cola_learn.command import Command, Main, run_stage
from cola_learn.label import commands
from cola_learn.label.cross import CrossOptions, run_cross
from cola_learn.label.found import FiguresOptions, TableOptions, run_figures, run_table
from cola_learn.label.menu import MenuOptions, run_menu
from cola_learn.label.options import LabelOptions
from cola_learn.label.run import run_label

COMMANDS: dict[str, Main] = {
    "inspect": Command(commands.InspectOptions, commands.run_inspect, "Print what a label store holds.", ("store",)),
    "merge": Command(
        commands.MergeOptions,
        commands.run_merge,
        "Join label stores that were made with the same settings on different questions.",
        ("stores",),
    ),
    "verify": Command(
        commands.VerifyOptions,
        commands.run_verify,
        "Run stored chains again, each alone and with nothing kept, and compare with what is stored.",
        ("store",),
    ),
    "menu": Command(
        MenuOptions,
        run_menu,
        "Make a short list of chains: the best single edits, their best compositions, what covers most questions.",
        ("--labels",),
    ),
    "cross": Command(
        CrossOptions, run_cross, "Run every chain of a menu on every question of some tasks.", ("--menu", "--tasks")
    ),
    "figures": Command(
        FiguresOptions,
        run_figures,
        "Draw what searches found: depths, transitions, layer use, of one label store or several.",
        ("--labels",),
    ),
    "table": Command(
        TableOptions,
        run_table,
        "Tabulate what searches found by task and kind of edit, beside what luck would find.",
        ("--labels",),
    ),
    "export": Command(
        commands.ExportOptions, commands.run_export, "Write labels in another project's form.", ("store",)
    ),
    "import": Command(
        commands.ImportOptions, commands.run_import, "Make a label store of another's labels.", ("file",)
    ),
}
LABEL = Command(
    LabelOptions,
    run_label,
    "Search, for every question, chains of layers that answer it (Monte Carlo tree search), and store all that was "
    "tried with rewards. Ctrl-C is safe: run the same command again to resume. Example: python -m cola_learn.label "
    "--config configs/label/demo.yaml --limit 50. Other commands: python -m cola_learn.label "
    f"{' | '.join(COMMANDS)} --help.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.label", LABEL, COMMANDS, arguments)


if __name__ == "__main__":
    main()
