"""``python -m cola_learn.infer``: ask one question and see the chain that was chosen for it."""

from collections.abc import Sequence

from cola_learn.command import Command, run_stage
from cola_learn.infer.options import InferOptions

INFER = Command(
    InferOptions,
    "cola_learn.infer.ask:run_infer",
    "Ask a question: prints the chain that the controller chooses, or the one given, and the answer through it, beside "
    "the plain model's. Example: "
    'python -m cola_learn.infer --controller runs/demo/train/controller "What do plants need to grow?"',
    positional=("question",),
)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.infer", INFER, {}, arguments)


if __name__ == "__main__":
    main()
