"""All search methods: budget, determinism, legality, and what each of them is for."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cola_learn.chains import Chain, Repeat, SearchSpace, Skip
from cola_learn.search.method import Prior, Search, SearchMethod
from cola_learn.search.methods import MCTS, Beam, RandomEdits, Scan
from cola_learn.search.moves import moves_of, random_edit, used_layers

DEPTH = 10
BUDGETED: dict[str, type[MCTS | RandomEdits | Beam]] = {
    "mcts": MCTS,
    "random": RandomEdits,
    "beam": Beam,
}
METHODS = (*BUDGETED, "scan")


def method_of(name: str, simulations: int) -> SearchMethod:
    return Scan() if name == "scan" else BUDGETED[name](simulations=simulations)


def start(
    method: SearchMethod, space: SearchSpace, seed: object = 0, prior: Prior | None = None, depth: int = DEPTH
) -> Search:
    return method.start(depth, space, str(seed), prior)


def run(search: Search, reward: dict[Chain, float] | None = None, target: Chain | None = None) -> list[Chain]:
    """Play a whole search with rewards from a table, or 1 for chains that leave out what ``target`` does."""
    asked = []
    while (chain := search.ask()) is not None:
        asked.append(chain)
        value = (reward or {}).get(chain, 0.0) if target is None else float(set(chain.layers) == set(target.layers))
        search.tell(chain, value, value - 0.5)
    return asked


spaces = st.builds(
    SearchSpace,
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(["both", "skip", "repeat"]),
    st.sampled_from(["disjoint", "nested"]),
)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 120), spaces, st.sampled_from(METHODS), st.integers(0, 5))
def test_budget_and_no_chain_twice(simulations: int, space: SearchSpace, method: str, seed: int) -> None:
    search = start(method_of(method, simulations), space, seed)
    asked = run(search)
    most = method_of(method, simulations).budget(DEPTH, space)
    assert len(asked) == len(set(asked)) <= search.simulations <= most
    if method == "scan":  # no budget but its list
        assert len(asked) == most == 1 + len(space.legal_edits(asked[0]))
    else:
        assert most == simulations
    assert asked[0] == Chain.base(DEPTH)
    assert all(search.visits(chain) >= 1 for chain in asked)
    if method == "mcts":
        assert search.visits(asked[0]) == search.simulations  # every path begins at the root


@settings(deadline=None, max_examples=60)
@given(spaces, st.sampled_from(METHODS), st.integers(0, 5))
def test_links_are_one_legal_edit_long(space: SearchSpace, method: str, seed: int) -> None:
    """Against the plain definition: enumerate the legal edits of the first chain and apply each."""
    search = start(method_of(method, 40), space, seed)
    asked = set(run(search))
    for first, second in search.links():
        assert first in asked
        assert second in {space.apply(first, edit) for edit in space.legal_edits(first)}


@settings(deadline=None, max_examples=60)
@given(spaces, st.sampled_from(METHODS), st.booleans(), st.randoms(use_true_random=False))
def test_twins_search_as_if_they_were_alone(
    space: SearchSpace, method: str, guided: bool, chance: random.Random
) -> None:
    """Two searches of one seed, whose rewards differ, in turns of any length."""
    weights = [1.0, *(chance.choice((0.0, 0.5, 1.0)) for _ in range(1000))]  # a softmax may come to 0
    prior = dict(zip(space.legal_edits(Chain.base(DEPTH)), weights, strict=False)) if guided else None
    options = method_of(method, 40)

    def reward(chain: Chain, wanted: int) -> float:
        return float(sum(chain.layers) % 3 == wanted)

    def alone(wanted: int) -> list[Chain]:
        search, asked = start(options, space, 0, prior), []
        while (chain := search.ask()) is not None:
            asked.append(chain)
            search.tell(chain, reward(chain, wanted), 0.0)
        return asked

    first = start(options, space, 0, prior)
    twins = {0: first, 1: options.start(DEPTH, space, "0", prior, twin=first)}
    asked: dict[int, list[Chain]] = {0: [], 1: []}
    going = [0, 1]
    while going:
        wanted = chance.choice(going)
        chain = twins[wanted].ask()
        if chain is None:
            going.remove(wanted)
        else:
            asked[wanted].append(chain)
            twins[wanted].tell(chain, reward(chain, wanted), 0.0)
    assert asked == {wanted: alone(wanted) for wanted in (0, 1)}


@settings(deadline=None, max_examples=60)
@given(spaces, st.integers(0, 1000), st.integers(0, 4))
def test_moves_do_what_the_space_does(space: SearchSpace, seed: int, edits: int) -> None:
    """The searches' fast edits against Chain.from_edits and Chain.apply."""
    chance = random.Random(seed)
    chain = Chain.base(DEPTH)
    for _ in range(edits):
        legal = space.legal_edits(chain)
        if not legal:
            break
        chain = space.apply(chain, chance.choice(legal))
    used, nested = used_layers(chain, space), space.edits == "nested"
    moves = [move for move in moves_of(space, chain.depth, DEPTH).all if move.may_follow(chain, used, nested)]
    results = {move.edit: move.apply(chain, nested) for move in moves}
    assert results == {
        edit: space.apply(chain, edit)
        for edit in space.legal_edits(chain)
        if isinstance(edit, Repeat) or edit.length < chain.depth
    }
    found = random_edit(chain, used, space, chance)
    assert (found is None) == (not results)
    if found:
        assert found[0] in results.values()
        assert found[1] == used_layers(found[0], space) or nested


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_search(method: str) -> None:
    first, second, third = (
        run(
            start(method_of(method, 100), SearchSpace(), seed),
            target=Chain.parse("0-4 7-9", DEPTH),
        )
        for seed in ("a", "a", "b")
    )
    assert first == second
    assert (first == third) == (method == "scan")


def test_searches_with_other_rewards_try_much_the_same_chains() -> None:
    """What makes the luck control cheap: gold and luck share what they try."""
    chance = random.Random(0)
    first, second = (
        run(
            start(MCTS(100), SearchSpace(), depth=30),
            reward={Chain.base(30).apply(Skip(layer)): float(chance.random() < 0.5) for layer in range(30)},
        )
        for _ in range(2)
    )
    assert len({*first} & {*second}) > 50


def test_tree_goes_deeper_than_one_edit_before_all_are_tried() -> None:
    edits = [len(chain.edits()) for chain in run(start(MCTS(200), SearchSpace(), depth=30))]
    assert len(SearchSpace().legal_edits(Chain.base(30))) > 200
    assert max(edits) >= 3


@pytest.mark.parametrize("method", ["mcts", "beam"])
def test_rewards_draw_the_search(method: str) -> None:
    """Chains without layer 5 are right: the search should find and prefer them, a blind one should not."""

    def share(rewarded: bool) -> float:
        hits = total = 0
        for seed in range(10):
            options = MCTS(120, depth_penalty=0.0) if method == "mcts" else method_of(method, 120)
            search = start(options, SearchSpace(2, 1, "skip"), seed)
            while (chain := search.ask()) is not None:
                good = 5 not in chain.layers
                search.tell(chain, float(good and rewarded), 0.0)
                hits, total = hits + good, total + 1
        return hits / total

    assert share(True) > share(False) + 0.15


def test_depth_penalty_prefers_short_chains() -> None:
    def mean_depth(penalty: float) -> float:
        options = MCTS(100, depth_penalty=penalty)
        asked = [chain for seed in range(8) for chain in run(start(options, SearchSpace(), seed))]
        return sum(chain.depth for chain in asked) / len(asked)

    assert mean_depth(10.0) < mean_depth(0.0) - 1


@pytest.mark.parametrize("method", ["mcts", "random", "beam"])
def test_small_spaces_are_searched_out(method: str) -> None:
    found = run(start(method_of(method, 400), SearchSpace(1, 1, "skip"), depth=3))
    assert {chain.layers for chain in found} == {(0, 1, 2), (1, 2), (0, 2), (0, 1), (0,), (1,), (2,)}


def test_greedy_builds_on_the_best_single_edit() -> None:
    """Margins fall with the distance from a chain of three skips; greedy must come closer with every step."""
    wanted = {2, 5, 7}
    search = start(Beam(40, width=1), SearchSpace(1, 1, "skip"))
    best = []
    while (chain := search.ask()) is not None:
        missing = set(range(DEPTH)) - set(chain.layers)
        search.tell(chain, float(missing == wanted), -float(len(missing ^ wanted)))
        best.append(len(missing ^ wanted))
    assert 0 in best


def test_scan_tries_every_block_once_in_order() -> None:
    space = SearchSpace(2, 1)
    chains = run(start(Scan(), space, depth=4))
    assert [str(chain) for chain in chains] == [
        *("0-3", "1-3", "0 2-3", "0-1 3", "0-2", "2-3", "0 3", "0-1"),
        *("(0)x2 1-3", "0 (1)x2 2-3", "0-1 (2)x2 3", "0-2 (3)x2", "(0-1)x2 2-3", "0 (1-2)x2 3", "0-1 (2-3)x2"),
    ]


def test_a_prior_comes_first_and_draws_the_search() -> None:
    prior = dict.fromkeys(SearchSpace().legal_edits(Chain.base(30)), 0.001)
    prior |= {Skip(4): 1.0, Skip(9): 1.0, Repeat(20): 1.0}
    likely = {Chain.from_edits([edit], 30) for edit in (Skip(4), Skip(9), Repeat(20))}
    asked = run(start(MCTS(60), SearchSpace(), prior=prior, depth=30))
    assert set(asked[1:6]) & likely
    assert likely <= set(asked[:30])
    plain = run(start(MCTS(60), SearchSpace(), depth=30))
    assert len(likely & set(plain)) < 3


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        (MCTS, {"simulations": 0}),
        (MCTS, {"random_child": 1.5}),
        (MCTS, {"prior_temperature": 0.0}),
        (Beam, {"width": 0}),
        (Beam, {"branch": 0}),
        (RandomEdits, {"simulations": -1}),
    ],
)
def test_bad_settings_are_named(method: type[SearchMethod], wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"search.{next(iter(wrong))}"):
        method(**wrong)
