import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.chains import Chain, Edit, Repeat, SearchSpace, Skip

DEPTH = 12
any_chain = st.lists(st.integers(0, DEPTH - 1), min_size=1, max_size=30).map(lambda layers: Chain(tuple(layers), DEPTH))


@st.composite
def disjoint_edits(draw: st.DrawFn) -> list[Edit]:
    """Disjoint, not adjacent skips (adjacent ones are one edit in canonical form) and any repeats."""
    edits: list[Edit] = []
    start, skipped = 0, False
    while start < DEPTH:
        length = draw(st.integers(1, 4))
        kind = draw(st.sampled_from(["keep", "skip", "repeat"]))
        if start + length > DEPTH:
            break
        if kind == "skip" and not skipped:
            edits.append(Skip(start, length))
        elif kind == "repeat":
            edits.append(Repeat(start, length, draw(st.integers(2, 5))))
        skipped = kind == "skip"
        start += length
    return edits


def walk(edits: list[Edit]) -> tuple[int, ...]:
    """The chain of disjoint edits, layer by layer: an independent statement of what edits mean."""
    layers: list[int] = []
    layer = 0
    while layer < DEPTH:
        here = [edit for edit in edits if edit.start == layer]
        if here and isinstance(here[0], Repeat):
            for _ in range(here[0].times):
                layers.extend(layer + offset for offset in range(here[0].length))
        if not here:
            layers.append(layer)
        layer += here[0].length if here else 1
    return tuple(layers)


@given(any_chain)
def test_text_round_trips(chain: Chain) -> None:
    assert Chain.parse(str(chain), DEPTH) == chain


def test_text_is_compact() -> None:
    chain = Chain.from_edits([Skip(12, 2), Repeat(20)], 30)
    assert str(chain) == "0-11 14-19 (20)x2 21-29"
    assert str(Chain.from_edits([Repeat(3, 2, 3)], 8)) == "0-2 (3-4)x3 5-7"


@given(disjoint_edits())
def test_edits_round_trip(edits: list[Edit]) -> None:
    layers = walk(edits)
    if not layers:
        return
    chain = Chain.from_edits(edits, DEPTH)
    assert chain.layers == layers
    assert list(chain.edits()) == edits


@given(any_chain)
def test_edits_are_found_exactly_or_refused(chain: Chain) -> None:
    try:
        edits = chain.edits()
    except ValueError:
        return
    assert Chain.from_edits(edits, DEPTH) == chain


def test_chain_without_disjoint_edits_is_named() -> None:
    with pytest.raises(ValueError, match=r"3 2 1 .* has no disjoint edits: layer 2"):
        Chain((3, 2, 1, 0), 4).edits()


@given(any_chain)
def test_depths(chain: Chain) -> None:
    assert chain.depth == len(chain) == len(chain.layers)
    assert chain.unique_depth == len(set(chain.layers))
    assert chain.is_base == (chain == Chain.base(DEPTH))


@given(st.data(), st.sampled_from(["both", "skip", "repeat"]), st.sampled_from(["disjoint", "nested"]))
def test_legal_edits_stay_in_the_space(data: st.DataObject, operations: str, edits: str) -> None:
    space = SearchSpace(3, 2, operations, edits)  # type: ignore[arg-type]
    chain = Chain.base(DEPTH)
    touched: set[int] = set()
    for _ in range(data.draw(st.integers(0, 5))):
        legal = space.legal_edits(chain)
        if not legal:
            break
        edit = data.draw(st.sampled_from(legal))
        assert edit.length <= 3
        assert not isinstance(edit, Repeat) or edit.times <= 3
        assert operations == "both" or isinstance(edit, Skip) == (operations == "skip")
        after = space.apply(chain, edit)
        change = -edit.length if isinstance(edit, Skip) else edit.length * (edit.times - 1)
        assert after.depth == chain.depth + change
        if edits == "disjoint":
            block = set(range(edit.start, edit.start + edit.length))
            assert not block & touched
            touched |= block
            assert Chain.from_edits(space.decompose(after), DEPTH) == after
        chain = after


def test_legal_edits_are_all_of_them() -> None:
    legal = SearchSpace(2, 1).legal_edits(Chain.base(3))
    assert set(legal) == {
        *(Skip(start, length) for start, length in [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2)]),
        *(Repeat(start, length) for start, length in [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2)]),
    }


def test_decompose_splits_long_skips_and_refuses_the_rest() -> None:
    space = SearchSpace(4, 2)
    assert space.decompose(Chain.from_edits([Skip(1, 9)], DEPTH)) == (Skip(1, 4), Skip(5, 4), Skip(9, 1))
    with pytest.raises(ValueError, match="outside"):
        space.decompose(Chain.from_edits([Repeat(1, 1, 4)], DEPTH))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-3 x", "'x'"),
        ("5-3", "backwards"),
        ("0-12", "layers are 0 to 11"),
        ("(1-2)", r"\(1-2\)"),
        ("", "at least one"),
    ],
)
def test_bad_text_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chain.parse(text, DEPTH)


def test_bad_edits_are_refused() -> None:
    with pytest.raises(ValueError, match="disjoint"):
        Chain.from_edits([Skip(1, 3), Repeat(2)], DEPTH)
    with pytest.raises(ValueError, match="last layer is 11"):
        Chain.from_edits([Skip(10, 3)], DEPTH)
    with pytest.raises(ValueError, match="times at least 2"):
        Repeat(0, 1, 1)
    with pytest.raises(ValueError, match="layer 12"):
        Chain((0, 12), DEPTH)


@pytest.mark.parametrize("text", ["(0-3)x999999999", "(0)x97", "0-5 " * 17, "(0-3)x99999999999999999999", "1" * 40])
def test_chains_deeper_than_any_use_are_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match=r"chains run at most 16 times the 6 layers|cannot read"):
        Chain.parse(text, 6)


def test_sixteen_times_the_layers_are_read() -> None:
    assert Chain.parse("(0-5)x16", 6).depth == 96
