"""Which edits are worth trying first, learned from labels of other questions."""

import math
from collections import defaultdict
from collections.abc import Iterable

from cola_learn.chains import Edit
from cola_learn.cli import UserError
from cola_learn.label.records import Label
from cola_learn.label.search import Prior, SearchSettings
from cola_learn.label.store import LabelStore


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


def prior_from_store(settings: SearchSettings, num_layers: int) -> Prior | None:
    """The prior that the settings ask for: softmax(mean gain / temperature) over the store's single edits.

    Raises:
        UserError: if the store has none, or is of a backbone of another depth.
    """
    if settings.prior is None:
        return None
    store = LabelStore.open(settings.prior)
    if store.manifest.num_layers != num_layers:
        raise UserError(
            f"--search.prior {settings.prior} is of a backbone of {store.manifest.num_layers} layers, not {num_layers}"
        )
    prior = gains_as_prior(store, settings.prior_temperature)
    if not prior:
        raise UserError(
            f"--search.prior {settings.prior} has no chains of one edit; make one with --search.method scan"
        )
    return prior


def gains_as_prior(labels: Iterable[Label], temperature: float) -> Prior:
    """Softmax of the edits' mean gains in margin over a temperature, both in nats; not normalised."""
    gains = {edit: gain for edit, (gain, _) in edit_gains(labels).items()}
    best = max(gains.values(), default=0.0)
    return {edit: math.exp((gain - best) / temperature) for edit, gain in gains.items()}
