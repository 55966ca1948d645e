"""``python -m cola_learn.infer``: ask a question, a file of them, or in a conversation, and see the chosen chains."""

from collections.abc import Sequence

from cola_learn.command import Command, run_stage
from cola_learn.infer.infer_options import InferOptions

INFER = Command(
    InferOptions,
    "cola_learn.infer.ask:run_infer",
    "Ask a question: prints the chain that the controller chooses, or the one given, and the answer through it, beside "
    "the plain model's. Or answer a file of questions, or chat.",
    positional=("question",),
    examples=(
        'python -m cola_learn.infer "What do plants need to grow?" --controller checkpoints/menu',
        'python -m cola_learn.infer "Which of these is a metal?" --controller checkpoints/menu --choices rust gold',
        'python -m cola_learn.infer "What is the capital of France?" --chain "0-17 20-29"',
        "python -m cola_learn.infer --questions asked.jsonl --output answered.jsonl --controller checkpoints/menu",
        "python -m cola_learn.infer --chat --compare --controller checkpoints/menu",
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.infer", INFER, {}, arguments)


if __name__ == "__main__":
    main()
