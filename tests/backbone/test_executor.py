"""The executor gives the same hidden states however the work is shared, cached and batched."""

import itertools
import random
from dataclasses import replace

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Counters, Executor
from cola_learn.backbone.recording import Batch
from cola_learn.backbone.rows import Row
from cola_learn.backbone.trie import ActivationTrie, default_budget
from cola_learn.chains import Chain, SearchSpace
from cola_learn.errors import UserError
from tests.architectures import wild_chains
from tests.backbone.test_replay import build
from tests.conftest import WordTokenizer


def alone(backbone: Backbone, row: Row, chain: Chain) -> torch.Tensor:
    executor = Executor(backbone, cache_bytes=0)
    return executor.run([(executor.open(row), chain)])[0]


def some_requests(num_layers: int, rows: int, count: int) -> list[tuple[int, Chain]]:
    """Chains as a search asks for them: edits of edits, many with a shared beginning."""
    draw = random.Random(0)
    space, requests = SearchSpace(2, 2), []
    for _ in range(count):
        chain = Chain.base(num_layers)
        for _ in range(draw.randint(0, 3)):
            if legal := space.legal_edits(chain):
                chain = space.apply(chain, draw.choice(legal))
        requests.append((draw.randrange(rows), chain))
    return requests


@pytest.mark.parametrize("budget", [0, 3_000, 20_000, 2**30])
@pytest.mark.parametrize("tokens_per_call", [1, 64, 4096])
def test_results_do_not_depend_on_budget_or_batching(tiny: Backbone, budget: int, tokens_per_call: int) -> None:
    rows = [Row.plain(list(range(3, 3 + length))) for length in (5, 8, 11, 16, 23)]
    executor = Executor(tiny, budget, tokens_per_call)
    handles = [executor.open(row) for row in rows]
    requests = some_requests(tiny.num_layers, len(rows), 60)
    found = []
    for start in range(0, len(requests), 20):
        found += executor.run([(handles[row], chain) for row, chain in requests[start : start + 20]])
    for (row, chain), hidden in zip(requests, found, strict=True):
        assert torch.allclose(hidden, alone(tiny, rows[row], chain), rtol=1e-4, atol=1e-4), str(chain)
    assert executor.trie.used_bytes <= budget


@pytest.mark.parametrize("bucket", [None, 32])
@pytest.mark.parametrize("name", ["Gemma3Text", "Mistral", "Qwen2Moe", "GPT2", "Bloom", "Mamba"])
def test_company_on_other_architectures(name: str, bucket: int | None) -> None:
    """Rows shorter and longer than a sliding window together, experts, and rows that have to be stacked; and padded for
    attention, as they are on a GPU."""
    more = {"sliding_window": 20} if name in ("Gemma3Text", "Mistral") else {}
    backbone = Backbone(build(name, **more), WordTokenizer(), name)
    rows = [Row.plain(list(range(3, 3 + length))) for length in (5, 17, 18, 24, 40)]
    if backbone.capabilities.shares_prompts:  # they bring masks of their own
        rows += [Row.with_options(range(3, 3 + length), [[7, 8], [9], [5, 6, 7]]) for length in (4, 9)]
    executor = Executor(backbone, bucket=bucket)
    handles = [executor.open(row) for row in rows]
    requests = some_requests(4, len(rows), 30)
    found = executor.run([(handles[row], chain) for row, chain in requests])
    for (row, chain), hidden in zip(requests, found, strict=True):
        assert torch.allclose(hidden, alone(backbone, rows[row], chain), rtol=1e-4, atol=1e-4), str(chain)


def test_memory_that_runs_out_makes_calls_smaller(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that holds 100 tokens and no more: the run goes on, with the results that it would have had."""
    rows = [Row.plain(list(range(3, 3 + length))) for length in (30, 40, 50, 60)]
    requests = some_requests(tiny.num_layers, len(rows), 20)
    expected = [alone(tiny, rows[row], chain) for row, chain in requests]
    own = tiny.run_layer

    def cramped(layer: int, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        if hidden.shape[1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return own(layer, hidden, batch)

    monkeypatch.setattr(tiny, "run_layer", cramped)
    limit = 100
    executor = Executor(tiny, 2**20, 512)
    handles = [executor.open(row) for row in rows]
    found = executor.run([(handles[row], chain) for row, chain in requests])
    assert executor.room.tokens == 64
    assert executor.trie.budget_bytes == 2**17
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in zip(found, expected, strict=True))
    assert "at most 64 tokens a call" in capsys.readouterr().err
    limit = 10
    with pytest.raises(UserError, match="out of memory with 64 tokens a call"):
        executor.run([(handles[0], Chain.base(tiny.num_layers))])


@pytest.fixture(params=["smollm32", "smollm16"])
def embedded(request: pytest.FixtureRequest, smollm: Backbone) -> Backbone:
    """In float32, and in bfloat16 on machines that compute in it; on others commands never choose it, and it takes
    minutes."""
    if request.param == "smollm16" and smollm.dtype != torch.bfloat16:
        pytest.skip("this machine does not compute in bfloat16")
    backbone: Backbone = request.getfixturevalue(request.param)
    return backbone


def test_company_does_not_change_a_bit(embedded: Backbone) -> None:
    """Invariant 5 rests on this: a chain's result is the same alone and in a crowd, to the last bit."""
    backbone = embedded
    draw = random.Random(1)
    rows = [Row.plain([draw.randrange(5, 40_000) for _ in range(length)]) for length in (20, 21, 24, 30)]
    executor = Executor(backbone)
    handles = [executor.open(row) for row in rows]
    requests = some_requests(30, len(rows), 24)
    found = executor.run([(handles[row], chain) for row, chain in requests])
    for (row, chain), hidden in zip(requests, found, strict=True):
        assert torch.equal(hidden, alone(backbone, rows[row], chain)), str(chain)


def test_calls_have_a_size_that_does_not_matter(embedded: Backbone) -> None:
    """A row has the same states and logits in calls of any of the sizes, through all layers."""
    backbone = embedded
    assert backbone.capabilities.exact
    assert backbone.capabilities.packing is not None
    draw = random.Random(3)
    few = backbone.record(Row.plain([draw.randrange(5, 40_000) for _ in range(8)]))
    found = []
    for size in backbone.capabilities.call_sizes:
        others = [Row.plain([draw.randrange(5, 40_000) for _ in range(size - 8)])] if size > 8 else []
        recordings = [few, *map(backbone.record, others)]
        batch, hidden = (
            Batch(recordings, backbone.capabilities.packing),
            torch.cat([each.hidden for each in recordings], 1),
        )
        for layer in range(30):
            hidden = backbone.run_layer(layer, hidden, batch)
        found.append((size, hidden[0, :8], backbone.finish(hidden[0])[:8]))
    for size, states, logits in found[1:]:
        assert torch.equal(states, found[0][1]), size
        assert torch.equal(logits, found[0][2]), size


def test_calls_are_filled_up(smollm: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm, "capabilities", replace(smollm.capabilities, call_sizes=(40, 64, 128)))
    executor = Executor(smollm)
    for tokens, filled in ((30, 40), (40, 40), (65, 128), (200, 200)):
        executor.counters = Counters()
        handle = executor.open(Row.plain([7] * tokens))
        executor.run([(handle, Chain.parse("0-29", 30))])
        assert (executor.counters.tokens, executor.counters.padding) == (30 * filled, 30 * (filled - tokens))


def test_shared_prefixes_run_once(tiny: Backbone) -> None:
    executor = Executor(tiny)
    handle = executor.open(Row.plain([5, 6, 7]))
    executor.run([(handle, Chain.parse("0-5", 6)), (handle, Chain.parse("0-3 5", 6)), (handle, Chain.parse("0-5", 6))])
    assert executor.counters.layers_run == 6 + 1
    executor.run([(handle, Chain.parse("0-4 (5)x2", 6))])
    assert executor.counters.layers_run == 7 + 2
    assert executor.counters.layers_asked == 6 + 5 + 6 + 7


def test_closing_a_row_frees_its_memory(tiny: Backbone) -> None:
    executor = Executor(tiny)
    handle = executor.open(Row.plain([5, 6, 7]))
    executor.run([(handle, chain) for chain in wild_chains(6)])
    assert executor.trie.used_bytes > 0
    executor.close(handle)
    assert executor.trie.used_bytes == 0


def test_a_long_chain_thins_out_before_it_is_forgotten() -> None:
    """Room for half of the prefixes: none that is kept is more than a few layers from the next."""
    trie = ActivationTrie(16 * 16)
    for depth in range(1, 33):
        trie.put(0, tuple(range(depth)), (torch.zeros(4),))
    kept = [depth for depth in range(1, 33) if trie.deepest(0, tuple(range(depth)))[1] == depth]
    assert len(kept) == 16
    assert max(after - before for before, after in itertools.pairwise([0, *kept, 33])) <= 4
    assert trie.hits == trie.lookups - sum(depth < kept[0] for depth in range(1, 33))


def test_the_default_budget_is_a_share_of_what_is_free() -> None:
    free = psutil.virtual_memory().available
    assert 0 < default_budget(torch.device("cpu")) <= free * 0.3


@settings(deadline=None)
@given(st.data())
def test_trie_never_lies_and_keeps_its_budget(data: st.DataObject) -> None:
    """Against a plain dictionary: whatever is returned is what was put, for the longest prefix still kept."""
    budget = data.draw(st.integers(0, 12)) * 16
    trie = ActivationTrie(budget)
    reference: dict[tuple[int, tuple[int, ...]], float] = {}
    paths = [path for length in (1, 2, 3) for path in itertools.product(range(2), repeat=length)]
    for step in range(data.draw(st.integers(1, 30))):
        row, path = data.draw(st.integers(0, 1)), data.draw(st.sampled_from(paths))
        action = data.draw(st.sampled_from(["put", "get", "forget"]))
        if action == "put" and (row, path) not in reference:
            reference[row, path] = float(step)
            trie.put(row, path, (torch.full((1, 4), float(step)),))
        elif action == "forget":
            trie.forget(row)
            reference = {key: value for key, value in reference.items() if key[0] != row}
        else:
            state, length = trie.deepest(row, path)
            assert (state == ()) == (length == 0)
            if state:
                assert state[0][0, 0] == reference[row, path[:length]]
            for length, (kept,) in enumerate(trie.path(row, path), start=1):
                assert kept[0, 0] == reference[row, path[:length]]
        assert trie.used_bytes <= budget
        if budget >= 30 * 16:
            assert trie.used_bytes == 16 * len(reference)
