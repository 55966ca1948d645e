"""What policies made of each question, as a file, and several evaluations of the same questions side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from rich.table import Table

from cola_learn.console import PlainConsole, console
from cola_learn.errors import UserError, first_line
from cola_learn.evaluate.evaluate_options import CompareOptions
from cola_learn.files import replacing, write_json
from cola_learn.stats import Interval, holm, p_value, paired_difference, points

FILE = "questions.parquet"
_NEEDED = ("policy", "oracle", "question", "digest", "reward", "depth")


def write_answers(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with at least ``policy``, whether it is an ``oracle``, ``question``, its ``digest``, ``reward`` and
    ``depth``.

    Raises:
        UserError: if the file cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    with replacing(folder / FILE) as scratch:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), scratch, write_page_checksum=True)


class Answers:
    """The file of an evaluation.

    Args:
        folder: of the evaluation.

    Attributes:
        folder: as given.
        questions: their keys with digests of what is asked, in order of the keys.
        rewards, depths: of each policy, by its name, ``[Q]``.
        oracles: names of those that know what no deployed policy can.

    Raises:
        UserError: if there is none, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow.parquet

        self.folder = folder
        try:
            table = pyarrow.parquet.read_table(folder / FILE, columns=list(_NEEDED), page_checksum_verification=True)
        except Exception as error:  # whatever a missing or damaged file makes pyarrow raise
            raise UserError(
                f"{folder} is no evaluation with a {FILE} ({first_line(error)}); "
                "python -m cola_learn.evaluate writes one"
            ) from None
        found = table.to_pandas().sort_values("question", kind="stable")
        own = {str(name): rows for name, rows in found.groupby("policy", sort=False)}
        self.questions = _named(next(iter(own.values()))) if own else []
        self.rewards: dict[str, NDArray[numpy.float64]] = {}
        self.depths: dict[str, NDArray[numpy.float64]] = {}
        self.oracles = {name for name, rows in own.items() if rows["oracle"].any()}
        for name, rows in own.items():
            if _named(rows) != self.questions:
                raise UserError(f"{folder / FILE} has other questions for {name} than for the first policy")
            self.rewards[name] = rows["reward"].to_numpy(dtype=float)
            self.depths[name] = rows["depth"].to_numpy(dtype=float)


def _named(rows: Any) -> list[tuple[str, str]]:
    return list(zip(rows["question"], rows["digest"], strict=True))


@dataclass(frozen=True)
class ComparedPolicy:
    """One policy of one evaluation.

    Attributes:
        evaluation: its folder.
        policy: its name there.
        accuracy, depth: means over the questions.
        to_first: paired difference to the first policy listed, with a 95% interval; None for itself.
        p_first: of McNemar's exact test (a paired t test where rewards are fractions), corrected for the number of
            policies (Holm).
    """

    evaluation: str
    policy: str
    accuracy: float
    depth: float
    to_first: Interval | None = None
    p_first: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What ``--output`` holds.

    Attributes:
        n: number of questions.
        rows: the policies compared.
    """

    n: int
    rows: list[ComparedPolicy] = field(default_factory=list)


def run_compare(options: CompareOptions) -> Comparison:
    """Print the policies of several evaluations, each with its difference to the first.

    Raises:
        UserError: if the evaluations are of different questions, or have no such policy.
    """
    evaluations = [Answers(folder) for folder in options.evaluations]
    first = evaluations[0]
    for other in evaluations[1:]:
        if other.questions != first.questions:
            shared = len(set(other.questions) & set(first.questions))
            raise UserError(
                f"{other.folder} is of {len(other.questions)} questions and {first.folder} of {len(first.questions)}; "
                f"{shared} are the same. Evaluate both with the same task, split, limit and seed"
            )
    chosen = [(answers, name) for answers in evaluations for name in _wanted(answers, options)]
    reference = chosen[0][0].rewards[chosen[0][1]]
    raw = {
        str(place): p_value(answers.rewards[name], reference)
        for place, (answers, name) in enumerate(chosen)
        if place and len(reference) > 1
    }
    corrected = holm(raw)
    rows = [
        ComparedPolicy(
            str(answers.folder),
            name,
            float(answers.rewards[name].mean()),
            float(answers.depths[name].mean()),
            paired_difference(answers.rewards[name], reference, options.seed) if place else None,
            corrected.get(str(place)),
        )
        for place, (answers, name) in enumerate(chosen)
    ]
    found = Comparison(len(reference), rows)
    _print(found)
    if options.output:
        write_json(options.output, asdict(found))
        console.print(f"comparison  {options.output}", soft_wrap=True)
    return found


def _wanted(answers: Answers, options: CompareOptions) -> list[str]:
    if options.policies:
        if missing := [name for name in options.policies if name not in answers.rewards]:
            raise UserError(
                f"{answers.folder} has no policy {missing[0]}; choose --policies from {', '.join(answers.rewards)}"
            )
        return list(options.policies)
    deployable = [name for name in answers.rewards if name not in answers.oracles]
    return deployable if answers.folder == options.evaluations[0] else [name for name in deployable if name != "base"]


def _print(found: Comparison) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("evaluation", "policy", "layers", "accuracy", "Δ first, points (95% CI)", "p (Holm)"):
        table.add_column(heading, justify="left" if heading in ("evaluation", "policy") else "right", no_wrap=True)
    for row in found.rows:
        p = "" if row.p_first is None else f"{row.p_first:.3f}"
        cells = (f"{row.depth:.1f}", f"{row.accuracy:.1%}", points(row.to_first), p)
        table.add_row(Path(row.evaluation).as_posix(), row.policy, *cells)
    PlainConsole(width=160).print(table)
    console.print(f"{found.n} questions, the same in all; differences are paired")
