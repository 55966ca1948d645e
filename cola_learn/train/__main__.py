"""``python -m cola_learn.train``: train a controller on labels."""

import ast
import contextlib
import sys
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import docstring_parser
import yaml

from cola_learn.command import Command, run_stage, user_errors
from cola_learn.errors import UserError
from cola_learn.train.train_options import ABOUT, TrainOptions

_SHARED = ("labels", "extra_labels", "limit", "backbone", "device", "dtype", "seed", "shape", "rule")
_TRAINER = """\
--trainer.max_epochs N, --trainer.max_steps N, --trainer.accelerator auto|cpu|gpu, --trainer.devices N,
--trainer.strategy auto|ddp, --trainer.precision 32|bf16-mixed, --trainer.gradient_clip_val X,
--trainer.accumulate_grad_batches N, --trainer.callbacks, --trainer.logger, ...: all of Lightning's Trainer;
--help.all lists them."""

FIT = Command(
    TrainOptions,
    "cola_learn.train.fit:fit",
    f"{ABOUT} --help.all lists these too.",
    examples=(
        "python -m cola_learn.train --config configs/train/small.yaml --labels runs/demo/labels",
        "python -m cola_learn.train --labels runs/mine --model.width 64 --trainer.max_epochs 20",
        "python -m cola_learn.train --labels runs/cross --data.trials all --model.objective value",
    ),
)


def _fit(name: str, arguments: Sequence[str]) -> None:
    if list(arguments) in (["-h"], ["--help"]):
        with contextlib.suppress(SystemExit):
            FIT(name, arguments)
        print(_settings())
        sys.exit(0)
    if not any(one.startswith("--print_config") for one in arguments):
        with user_errors():
            _check_labels(arguments)
    from cola_learn.train.fit import fit  # Lightning takes seconds to import

    fit(name, ["--help" if argument == "--help.all" else argument for argument in arguments])


def _check_labels(arguments: Sequence[str]) -> None:
    """Refuse labels that are not there, before Lightning is imported.

    Raises:
        UserError: naming the folder.
    """
    given: dict[str, object] = {}
    for flag, value in [*pairwise(arguments), *(one.partition("=")[::2] for one in arguments if "=" in one)]:
        if flag == "--config":
            with contextlib.suppress(OSError, ValueError, yaml.YAMLError, TypeError):
                given |= yaml.safe_load(Path(value).read_text(encoding="utf-8"))
        elif flag in ("--labels", "--extra_labels"):
            given[flag.removeprefix("--")] = value
    for name in ("labels", "extra_labels"):
        folder = Path(str(given.get(name) or "."))
        there = any(next(folder.glob(pattern), None) for pattern in ("manifest.json", "*/manifest.json"))
        if given.get(name) not in (None, "", "null") and not there and ":" not in str(folder):  # ORG/NAME:v0 is of W&B
            raise UserError(
                f"--{name} {folder} is not a label store (no manifest.json); make one with python -m cola_learn.label"
            )


def _settings() -> str:
    """What can be set under model, data and trainer, read off the sources."""
    lines = []
    for group, file, kind in (("model", "module.py", "ControllerModule"), ("data", "data.py", "LabelDataModule")):
        tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
        found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind)
        init = next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
        own = init.args.args[1:]
        defaults = {one.arg: ast.unparse(value) for one, value in zip(own, init.args.defaults, strict=True)}
        lines.append(f"\n{group}:")
        for one in docstring_parser.parse(ast.get_docstring(found) or "").params:
            if one.arg_name not in _SHARED:
                said = f"{' '.join((one.description or '').split())} (default: {defaults[one.arg_name]})"
                flag = f"  --{group}.{one.arg_name} ".ljust(28)
                lines.append(textwrap.fill(said, 110, initial_indent=flag, subsequent_indent=" " * 28))
    lines.append(f"\ntrainer:\n{textwrap.indent(_TRAINER, '  ')}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.train", _fit, {}, arguments)


if __name__ == "__main__":
    main()
