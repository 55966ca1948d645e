"""The report as one self-contained HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from cola_learn.chains import Chain
from cola_learn.evaluate import curves as plots
from cola_learn.evaluate.markdown import heights, p_text
from cola_learn.evaluate.report import Report, explained
from cola_learn.evaluate.results import Evaluated, Result
from cola_learn.files import write_text
from cola_learn.stats import points
from cola_learn.tasks.questions import Question

_EXAMPLES = 10  # questions won, and as many lost
_STRIPS = 4  # policies whose layers are drawn


@dataclass(frozen=True)
class Example:
    """A question that base and a policy answer differently."""

    question: Question
    chain: Chain
    answer: int
    base_answer: int


def write_html(path: Path, report: Report, evaluated: Evaluated) -> None:
    """Write the page: one file, no script, nothing loaded from elsewhere, all dataset text escaped."""
    results = {result.name: result for result in evaluated.results}
    base, main = evaluated.results[0], results[report.main.name]
    assert base.chains is not None
    num_layers = base.chains[0].num_layers
    curves = any(row.target is not None for row in report.rows)
    plot = plots.accuracy_curves if curves else plots.accuracy_against_depth
    shown = ["static", *report.controllers, "search_oracle"]
    environment = Environment(loader=PackageLoader("cola_learn.evaluate", "."), autoescape=True)
    page = environment.get_template("report.html").render(
        report=report,
        explained={row.policy: explained(row) for row in report.rows},
        points=points,
        p_text=p_text,
        num_layers=num_layers,
        curves=curves,
        heights=heights(report.rows),
        depth_plot=Markup(plot(report.rows, num_layers, report.measure)),
        reliability_plot=Markup(plots.reliability_curves(report.reliability)) if report.reliability else None,
        strips=[
            (name, layer_shares(result.chains))
            for name in shown
            if (result := results.get(name)) is not None and result.chains is not None
        ][:_STRIPS],
        won=_examples(evaluated.questions, base, main, 1),
        lost=_examples(evaluated.questions, base, main, -1),
    )
    write_text(path, page)


def _examples(questions: Sequence[Question], base: Result, main: Result, sign: int) -> list[Example]:
    assert main.chains is not None
    assert main.answers is not None
    assert base.answers is not None
    over = sign * (main.rewards - base.rewards)
    places = sorted((place for place in range(len(questions)) if over[place] > 0), key=lambda place: -over[place])
    return [
        Example(questions[place], main.chains[place], main.answers[place], base.answers[place])
        for place in places[:_EXAMPLES]
    ]


def layer_shares(chains: Sequence[Chain]) -> list[tuple[float, float]]:
    """For each layer the shares of chains that skip it and that run it more than once."""
    counts = [[chain.layers.count(layer) for chain in chains] for layer in range(chains[0].num_layers)]
    return [
        (sum(count == 0 for count in layer) / len(chains), sum(count > 1 for count in layer) / len(chains))
        for layer in counts
    ]
