import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cola_learn.chains import Chain, SearchSpace
from cola_learn.label import ChainSearch, SearchSettings

DEPTH = 10


def run(search: ChainSearch, reward: dict[Chain, float] | None = None, target: Chain | None = None) -> list[Chain]:
    """Play a whole search with rewards from a table, or 1 for chains that leave out what ``target`` does."""
    asked = []
    while (chain := search.ask()) is not None:
        asked.append(chain)
        value = (reward or {}).get(chain, 0.0) if target is None else float(set(chain.layers) == set(target.layers))
        search.tell(chain, value)
    return asked


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 150),
    st.sampled_from(["disjoint", "nested"]),
    st.sampled_from(["both", "skip", "repeat"]),
    st.integers(0, 5),
)
def test_budget_and_no_chain_twice(simulations: int, edits: str, operations: str, seed: int) -> None:
    space = SearchSpace(2, 2, operations, edits)  # type: ignore[arg-type]
    search = ChainSearch(DEPTH, space, SearchSettings(simulations), seed)
    asked = run(search)
    assert search.simulations == simulations
    assert len(asked) == len(set(asked)) <= simulations
    assert asked[0] == Chain.base(DEPTH)
    assert list(search.visits) == asked
    assert search.visits[asked[0]] == simulations  # every path begins at the root


def test_same_seed_same_search() -> None:
    first, second, third = (
        run(ChainSearch(DEPTH, SearchSpace(), SearchSettings(100), seed), target=Chain.parse("0-4 7-9", DEPTH))
        for seed in ("a", "a", "b")
    )
    assert first == second != third


def test_tree_goes_deeper_than_one_edit_before_all_are_tried() -> None:
    search = ChainSearch(30, SearchSpace(), SearchSettings(200), 0)
    edits = [len(chain.edits()) for chain in run(search)]
    assert len(SearchSpace().legal_edits(Chain.base(30))) > 200
    assert max(edits) >= 3


def test_rewards_draw_the_search() -> None:
    """Chains without layer 5 are right: the search should find and prefer them, a blind one should not."""

    def share(rewarded: bool) -> float:
        hits = total = 0
        for seed in range(10):
            search = ChainSearch(DEPTH, SearchSpace(2, 1, "skip"), SearchSettings(120, depth_penalty=0.0), seed)
            while (chain := search.ask()) is not None:
                good = 5 not in chain.layers
                search.tell(chain, float(good and rewarded))
                hits, total = hits + good, total + 1
        return hits / total

    assert share(True) > share(False) + 0.15


def test_depth_penalty_prefers_short_chains() -> None:
    def mean_depth(penalty: float) -> float:
        asked = [
            chain
            for seed in range(8)
            for chain in run(ChainSearch(DEPTH, SearchSpace(), SearchSettings(100, depth_penalty=penalty), seed))
        ]
        return sum(chain.depth for chain in asked) / len(asked)

    assert mean_depth(10.0) < mean_depth(0.0) - 1


def test_small_spaces_are_searched_out() -> None:
    search = ChainSearch(3, SearchSpace(1, 1, "skip"), SearchSettings(400), 0)
    assert {chain.layers for chain in run(search)} == {(0, 1, 2), (1, 2), (0, 2), (0, 1), (0,), (1,), (2,)}


@pytest.mark.parametrize("settings_", [{"simulations": 0}, {"random_child": 1.5}])
def test_bad_settings_are_named(settings_: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"search.{next(iter(settings_))}"):
        SearchSettings(**settings_)  # type: ignore[arg-type]
