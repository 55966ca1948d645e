"""Every chain of a menu on every question of a pool: dense supervision, in which questions differ and chains do not."""

from dataclasses import dataclass, replace
from pathlib import Path

from cola_learn.cli import UserError, console, next_command
from cola_learn.label.menu import LARGEST
from cola_learn.label.options import LabelOptions
from cola_learn.label.run import run_label
from cola_learn.label.search import SearchSettings
from cola_learn.label.store import LabelStore


@dataclass(frozen=True)
class CrossOptions:
    """Options of python -m cola_learn.label cross.

    Attributes:
        menu: file of chains, one a line.
        tasks: what to run them on, as task:split; a part of a split is written sciq:validation[:75%%].
        limit: at most this many questions of each task, drawn with the seed; default all.
        output: folder for one label store a task.
        backbone: as for label.
        device: as for label.
        workers: as for label.
        trees: as for label.
        cache_gib: as for label.
        seed: of the draw.
    """

    menu: Path
    tasks: list[str]
    limit: int | None = None
    output: Path = Path("runs/cross")
    backbone: str = "embedded"
    device: str = "auto"
    workers: int = 1
    trees: int = 32
    cache_gib: float | None = None
    seed: int = 0


def run_cross(options: CrossOptions) -> list[LabelStore]:
    """Run the menu on the tasks, one store each; what is there already is not run again.

    The stores are label stores like any other, with the score of every option for each (question, chain) beside reward
    and margin: :attr:`~cola_learn.label.records.Trial.scores`.

    Raises:
        UserError: for options that cannot be met.
    """
    if not options.tasks:
        raise UserError("--tasks is empty; give task:split, such as arc_easy:test")
    lines = sum(bool(line.split("#")[0].strip()) for line in _text(options.menu).splitlines())
    if lines > LARGEST:
        raise UserError(f"--menu {options.menu} has {lines} chains; at most {LARGEST} are run")
    common = LabelOptions(
        limit=options.limit,
        backbone=options.backbone,
        device=options.device,
        search=SearchSettings(method="menu", menu=options.menu, simulations=lines + 1),
        luck=False,
        neighbours=0,
        keep_scores=True,
        trees=options.trees,
        cache_gib=options.cache_gib,
        workers=options.workers,
        seed=options.seed,
        tracking="disabled",
    )
    stores = []
    for number, name in enumerate(options.tasks, start=1):
        whole, bracket, part = name.partition("[")
        task, colon, split = whole.rpartition(":")
        if not colon:
            raise UserError(f"--tasks {name} names no split; give task:split, such as arc_easy:test")
        console.rule(f"{name} ({number} of {len(options.tasks)})")
        folder = options.output / f"{Path(task).stem}-{split}"  # parts of a split never share a question
        store = run_label(replace(common, task=task, split=split + bracket + part, output=folder))
        assert store is not None
        stores.append(store)
    next_command(*(f"python -m cola_learn.label inspect {store.folder}" for store in stores))
    return stores


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--menu {file} cannot be read ({error}); python -m cola_learn.label menu makes one") from None
