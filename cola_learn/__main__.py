"""The command table: ``cola-learn label`` is ``python -m cola_learn.label``, and so on."""

import sys
from collections.abc import Sequence
from importlib import import_module

from cola_learn.command import no_such_command, user_errors
from cola_learn.errors import UserError

STAGES = {
    "assets": ("cola_learn.assets", "fetch the embedded model and benchmarks"),
    "label": ("cola_learn.label.__main__", "search the best chains of training questions"),
    "train": ("cola_learn.train.__main__", "train a controller on the labels"),
    "export": ("cola_learn.export.__main__", "write a trained controller as a folder for others"),
    "evaluate": ("cola_learn.evaluate.__main__", "measure a controller on held-out questions"),
    "infer": ("cola_learn.infer.__main__", "ask a question and see the chain chosen for it"),
}
_HELP = """usage: cola-learn COMMAND ...

Find, learn and measure a better chain of layers for every input of a pretrained LLM. In the order of use:

{table}

cola-learn COMMAND --help says more; python -m cola_learn.COMMAND is the same.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a stage by its name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_HELP.format(table="\n".join(f"  {name:<10}{about}" for name, (_, about) in STAGES.items())))
        return
    name, *rest = given
    if name not in STAGES:
        with user_errors():
            raise UserError(no_such_command(name, STAGES))
    import_module(STAGES[name][0]).main(rest)


if __name__ == "__main__":
    main()
