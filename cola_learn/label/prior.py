"""Which edits are worth trying first, learned from labels of other questions."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cola_learn.chains import Chain, Edit
from cola_learn.errors import UserError
from cola_learn.files import write_text
from cola_learn.label.mcts import MCTS
from cola_learn.label.records import Label
from cola_learn.label.search import Prior, SearchMethod
from cola_learn.label.store import LabelStore
from cola_learn.tasks.questions import Question

Priors = Callable[[Question], Prior | None]
"""The prior of a question; None for none."""


def edit_gains(labels: Iterable[Label]) -> dict[Edit, tuple[float, int]]:
    """For every single edit tried: its mean gain in margin over the base chain, in nats, and on how many questions."""
    sums: dict[Edit, float] = defaultdict(float)
    counts: dict[Edit, int] = defaultdict(int)
    for label in labels:
        for trial in label.trials[1:]:
            try:
                edits = trial.chain.edits()
            except ValueError:  # a chain of nested edits
                continue
            if len(edits) == 1:
                sums[edits[0]] += trial.margin - label.base.margin
                counts[edits[0]] += 1
    return {edit: (sums[edit] / counts[edit], counts[edit]) for edit in sums}


def load_priors(method: SearchMethod, num_layers: int) -> Priors | None:
    """The prior of each question that a search method asks for.

    A label store gives one for all: softmax(mean gain / temperature) over its single edits. A file has weights for each
    question, as ``python -m cola_learn.train prior`` writes them with a controller.

    Raises:
        UserError: if there is nothing of use.
    """
    if not isinstance(method, MCTS) or method.prior is None:
        return None
    if method.prior.is_file():
        return _priors_from_file(method.prior, num_layers)
    store = LabelStore.open(method.prior, "--search.prior")
    if store.manifest.num_layers != num_layers:
        raise UserError(
            f"--search.prior {method.prior} is of a backbone of {store.manifest.num_layers} layers, not {num_layers}"
        )
    prior = gains_as_prior(store, method.prior_temperature)
    if not prior:
        raise UserError(f"--search.prior {method.prior} has no chains of one edit; make one with --search Scan")
    return lambda question: prior


def write_priors(file: Path, priors: Mapping[Question, Prior], num_layers: int) -> None:
    """Weights of edits for each question as JSON lines; an edit is written as the chain that it makes of the base."""
    rows = [
        {
            "task": question.task,
            "split": question.split,
            "id": question.id,
            "edits": [[str(Chain.from_edits([edit], num_layers)), weight] for edit, weight in prior.items()],
        }
        for question, prior in priors.items()
    ]
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))


def _priors_from_file(file: Path, num_layers: int) -> Priors:
    priors: dict[str, Prior] = {}
    try:
        for line in file.read_text().splitlines():
            row = json.loads(line)
            edits = {Chain.parse(text, num_layers).edits(): float(weight) for text, weight in row["edits"]}
            priors[f"{row['task']}/{row['split']}/{row['id']}"] = {edit: weight for (edit,), weight in edits.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--search.prior {file} cannot be read: {error!r}; python -m cola_learn.train prior writes one"
        ) from None
    return lambda question: priors.get(question.key)


def gains_as_prior(labels: Iterable[Label], temperature: float) -> Prior:
    """Softmax of the edits' mean gains in margin over a temperature, both in nats; not normalised."""
    gains = {edit: gain for edit, (gain, _) in edit_gains(labels).items()}
    best = max(gains.values(), default=0.0)
    return {edit: math.exp((gain - best) / temperature) for edit, gain in gains.items()}
