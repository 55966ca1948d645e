"""``python -m cola_learn.evaluate``: policies against the plain model, controls and full search."""

from collections.abc import Sequence

from cola_learn.command import Command, Main, run_stage
from cola_learn.evaluate.evaluate_options import CompareOptions, EvaluateOptions, RecipeOptions

COMMANDS: dict[str, Main] = {
    "compare": Command(
        CompareOptions,
        "cola_learn.evaluate.per_question:run_compare",
        "Line up evaluations of the same questions, paired question by question.",
        ("evaluations",),
        ("python -m cola_learn.evaluate compare runs/a/evaluate runs/b/evaluate --policies controller",),
    ),
    "chains": Command(
        RecipeOptions,
        "cola_learn.evaluate.recipes:run_recipes",
        "Judge layer recipes, such as a published self-merge, beside the plain model: no controller, no labels.",
        ("recipes",),
        (
            'python -m cola_learn.evaluate chains "0-16 (17)x2 18-29"',
            "python -m cola_learn.evaluate chains recipes.txt merge.yaml --backbone Qwen/Qwen3-0.6B --tasks mmlu:test",
        ),
    ),
}
EVALUATE = Command(
    EvaluateOptions,
    "cola_learn.evaluate.evaluation:run_evaluate",
    "Measure controllers on held-out questions beside the plain model, static chains, their own choices dealt to other "
    "questions, and oracles. Questions are run here (with full search and its luck control), or have stored scores "
    f"(--held, with many opponents at equal depth). Other commands: {', '.join(COMMANDS)}.",
    examples=(
        "python -m cola_learn.evaluate --config configs/evaluate/demo.yaml --controllers runs/demo/train/controller",
        "python -m cola_learn.evaluate --labels runs/mine --controllers checkpoints/mine --tasks mine_held_out.jsonl",
        "python -m cola_learn.evaluate --config configs/evaluate/menu.yaml --controllers checkpoints/menu",
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.evaluate", EVALUATE, COMMANDS, arguments)


if __name__ == "__main__":
    main()
