"""``python -m cola_learn.evaluate``: a controller against the plain model, controls and full search."""

from collections.abc import Sequence

from cola_learn.command import Command, Main, run_stage
from cola_learn.evaluate.options import CompareOptions, DashboardOptions, EvaluateOptions, MenuEvaluateOptions

COMMANDS: dict[str, Main] = {
    "compare": Command(
        CompareOptions,
        "cola_learn.evaluate.compare:run_compare",
        "Line up evaluations of the same questions, paired question by question.",
        ("evaluations",),
        ("python -m cola_learn.evaluate compare runs/a/evaluate runs/b/evaluate --policies controller",),
    ),
    "dashboard": Command(
        DashboardOptions,
        "cola_learn.evaluate.dashboard:run_dashboard",
        "Make a W&B workspace for a project: a section for each stage, and accuracy against depth and time.",
        examples=("python -m cola_learn.evaluate dashboard --dry_run",),
    ),
    "menu": Command(
        MenuEvaluateOptions,
        "cola_learn.evaluate.menu:run_menu_evaluate",
        "Compare policies that choose from one menu of chains, at equal depth, on stored scores of many tasks.",
    ),
}
EVALUATE = Command(
    EvaluateOptions,
    "cola_learn.evaluate.evaluation:run_evaluate",
    "Measure a controller on held-out questions beside the plain model, the best static chain, its own choices for "
    f"shuffled prompts, and oracles (full search with a luck control). Other commands: {', '.join(COMMANDS)}.",
    examples=(
        "python -m cola_learn.evaluate --config configs/evaluate/demo.yaml --controller runs/demo/train/controller",
        "python -m cola_learn.evaluate --controller checkpoints/mine --labels runs/mine --split validation --limit 200",
        "python -m cola_learn.evaluate menu --config configs/evaluate/menu.yaml --controllers checkpoints/menu",
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.evaluate", EVALUATE, COMMANDS, arguments)


if __name__ == "__main__":
    main()
