"""Which edits are worth trying first, learned from labels of other questions."""

import math
from collections import defaultdict
from collections.abc import Iterable

from cola_learn.chains import Edit
from cola_learn.errors import UserError
from cola_learn.label.records import Label
from cola_learn.label.store import LabelStore
from cola_learn.search.method import Prior, SearchMethod


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


def load_prior(method: SearchMethod, num_layers: int) -> Prior | None:
    """The prior that a search method names by its setting ``prior``, a label store: softmax(mean gain /
    ``prior_temperature``) over the store's single edits.

    Raises:
        UserError: if there is nothing of use.
    """
    folder = vars(method).get("prior")
    if folder is None:
        return None
    store = LabelStore.open(folder, "--search.prior")
    if store.manifest.num_layers != num_layers:
        raise UserError(
            f"--search.prior {folder} is of a backbone of {store.manifest.num_layers} layers, not {num_layers}"
        )
    prior = gains_as_prior(store, vars(method).get("prior_temperature", 0.25))
    if not prior:
        raise UserError(f"--search.prior {folder} has no chains of one edit; make one with --search Scan")
    return prior


def gains_as_prior(labels: Iterable[Label], temperature: float) -> Prior:
    """Softmax of the edits' mean gains in margin over a temperature, both in nats; not normalised."""
    gains = {edit: gain for edit, (gain, _) in edit_gains(labels).items()}
    best = max(gains.values(), default=0.0)
    return {edit: math.exp((gain - best) / temperature) for edit, gain in gains.items()}
