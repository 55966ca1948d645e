"""Several evaluations of the same questions side by side, paired question by question."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

from cola_learn.console import PlainConsole, console
from cola_learn.errors import UserError
from cola_learn.evaluate.evaluate_options import CompareOptions
from cola_learn.evaluate.per_question import Answers
from cola_learn.files import write_json
from cola_learn.stats import Interval, holm, p_value, paired_difference, points


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
