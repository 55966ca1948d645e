"""``python -m cola_learn.train``: train a controller on labels."""

from collections.abc import Sequence

from cola_learn.command import Command, Main, run_stage
from cola_learn.train.options import ABOUT, PriorOptions, TrainOptions

COMMANDS: dict[str, Main] = {
    "prior": Command(
        PriorOptions,
        "cola_learn.train.controller_prior:run_prior",
        "Write which edits a controller would choose for each question, to guide a search with.",
        examples=("python -m cola_learn.train prior --controller runs/demo/train/controller --task arc_easy",),
    )
}


FIT = Command(
    TrainOptions,
    "cola_learn.train.fit:fit",
    f"{ABOUT} --help.all lists these too. Other commands: {', '.join(COMMANDS)}.",
    examples=(
        "python -m cola_learn.train --config configs/train/small.yaml --labels runs/demo/labels",
        "python -m cola_learn.train --labels runs/mine --model.width 64 --trainer.max_epochs 20",
        "python -m cola_learn.train --labels runs/cross --data.trials all --model.objective value",
    ),
)


def _fit(name: str, arguments: Sequence[str]) -> None:
    if list(arguments) in (["-h"], ["--help"]):
        FIT(name, arguments)
    from cola_learn.train.fit import fit  # Lightning takes seconds to import

    fit(name, ["--help" if argument == "--help.all" else argument for argument in arguments])


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.train", _fit, COMMANDS, arguments)


if __name__ == "__main__":
    main()
