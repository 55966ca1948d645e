"""The search methods by name."""

from functools import lru_cache

from cola_learn.chains import Chain, SearchSpace
from cola_learn.label.baselines import BeamSearch, ListSearch, RandomSearch
from cola_learn.label.mcts import TreeSearch
from cola_learn.label.menu_file import read_menu
from cola_learn.label.search import Prior, Search, SearchSettings


def make_search(
    num_layers: int,
    space: SearchSpace,
    settings: SearchSettings,
    seed: int | str,
    prior: Prior | None = None,
    twin: Search | None = None,
) -> Search:
    """The search that ``settings.method`` names.

    Args:
        num_layers: N of the backbone.
        space: which edits may follow a chain.
        settings: method, budget and rules.
        seed: everything random in the search follows from it.
        prior: weight of every edit, for a tree search; edits it does not name get the least weight it gives.
        twin: a search that was made with the same arguments for other rewards of the same sample; what does not depend
            on rewards is shared with it.
    """
    if settings.method == "mcts":
        return TreeSearch(num_layers, space, settings, seed, prior, twin if isinstance(twin, TreeSearch) else None)
    if settings.method == "random":
        return RandomSearch(num_layers, space, settings.simulations, seed)
    if chains := listed(num_layers, space, settings):
        return ListSearch(chains, one_edit=settings.method == "scan")
    width = settings.beam_width if settings.method == "beam" else 1
    return BeamSearch(num_layers, space, settings.simulations, width, settings.beam_branch, seed)


def listed(num_layers: int, space: SearchSpace, settings: SearchSettings) -> tuple[Chain, ...]:
    """The chains that a scan or a menu runs, the base chain first; none for a method that finds its own.

    Raises:
        UserError: if the menu cannot be read.
    """
    base = Chain.base(num_layers)
    if settings.method == "scan":
        return (base, *scanned(num_layers, space))
    if settings.menu:
        return (base, *(chain for chain in read_menu(settings.menu, num_layers) if chain != base))
    return ()


def budget(num_layers: int, space: SearchSpace, settings: SearchSettings) -> int:
    """The most simulations that a search makes.

    Raises:
        UserError: if a menu cannot be read.
    """
    return len(listed(num_layers, space, settings)) or settings.simulations


@lru_cache(maxsize=8)
def scanned(num_layers: int, space: SearchSpace) -> tuple[Chain, ...]:
    """What every edit of the base chain makes of it, in the order of a scan: by executions (skips first), block length,
    start."""
    base = Chain.base(num_layers)
    edits = sorted(space.legal_edits(base), key=lambda edit: (getattr(edit, "times", 0), edit.length, edit.start))
    return tuple(space.apply(base, edit) for edit in edits)
