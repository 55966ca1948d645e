"""``python -m cola_learn.label``: search the best chains of training questions; ``... inspect`` and so on look after
the stores that it makes."""

from collections.abc import Sequence

from cola_learn.command import Command, Main, run_stage
from cola_learn.label import label_options as options

COMMANDS: dict[str, Main] = {
    "inspect": Command(
        options.InspectOptions,
        "cola_learn.label.commands:run_inspect",
        "Print what label stores hold; of a menu, what each chain gains and loses.",
        ("store",),
    ),
    "merge": Command(
        options.MergeOptions,
        "cola_learn.label.commands:run_merge",
        "Join label stores that were made with the same settings on different questions.",
        ("stores",),
    ),
    "verify": Command(
        options.VerifyOptions,
        "cola_learn.label.commands:run_verify",
        "Run stored chains again, each alone and with nothing kept, and compare with what is stored.",
        ("store",),
    ),
    "menu": Command(
        options.MenuOptions,
        "cola_learn.label.menu:run_menu",
        "Make a short list of chains: the best single edits, their best compositions, what covers most questions.",
        ("--labels",),
    ),
}
LABEL = Command(
    options.LabelOptions,
    "cola_learn.label.run:run_label",
    "Search, for every question, chains of layers that answer it, and store all that was tried, with rewards. Ctrl-C "
    f"is safe: run the same command again to resume. Other commands: {', '.join(COMMANDS)}.",
    examples=(
        "python -m cola_learn.label --config configs/label/demo.yaml --limit 50",
        "python -m cola_learn.label --tasks mine.jsonl --output runs/mine --show_prompt",
        "python -m cola_learn.label --tasks mmlu:test --backbone Qwen/Qwen3-0.6B --search.simulations 100 --workers 2",
        "python -m cola_learn.label --config menu --search.file menu.txt --tasks arc_easy:test sciq:validation",
        "python -m cola_learn.label --search Beam --search.width 8 --space.operations skip",
        "python -m cola_learn.label inspect runs/demo/labels",
    ),
    seldom=(
        *("prompt", "response_tokens", "temperature", "truncate", "cache_gib", "wandb", "neighbours", "keep_scores"),
        *("ray_address", "worker_cpus", "worker_gpus", "patience", "print_config"),
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.label", LABEL, COMMANDS, arguments)


if __name__ == "__main__":
    main()
