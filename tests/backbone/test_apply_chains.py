"""Rows of one batch through chains of their own, held against each row alone."""

from itertools import compress
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cola_learn import Chain, apply_chain
from cola_learn.backbone.apply_chain import apply_chains, supersequence
from cola_learn.errors import UserError
from tests.architectures import TOLERANCE, tiny_model
from tests.backbone.test_apply_chain import BY_PLACE
from tests.backbone.test_architectures import SLOTS, broad

CHAINS = [Chain.parse(text, 4) for text in ("0-3", "0 2-3", "0-1 (2)x2 3", "(0-1)x2 3", "1-3", "0-3")]
layers = st.lists(st.integers(0, 5), max_size=9).map(tuple)


def holds(whole: tuple[int, ...], part: tuple[int, ...]) -> bool:
    rest = iter(whole)
    return all(layer in rest for layer in part)


@given(layers, layers)
def test_a_supersequence_holds_both_and_no_more_than_it_must(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    whole = supersequence(one, other)
    assert holds(whole, one)
    assert holds(whole, other)
    shared = max(
        (sum(bits) for bits in _choices(len(one)) if holds(other, tuple(compress(one, bits)))),
        default=0,
    )  # the longest common subsequence, by trying all
    assert len(whole) == len(one) + len(other) - shared


def _choices(count: int) -> list[tuple[bool, ...]]:
    return [tuple(bool(number >> place & 1) for place in range(count)) for number in range(2**count)]


@pytest.mark.parametrize("model_type", broad([name for name, slotted in SLOTS.items() if slotted]))
def test_every_architecture_with_slots(model_type: str) -> None:
    """Logits and greedy text, padded on the left, as of each row alone."""
    tiny = tiny_model(model_type).eval()
    lengths = (7, 3, 6, 7, 5, 6)
    draws = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, 90, (length,), generator=draws) for length in lengths]
    ids = torch.nn.utils.rnn.pad_sequence(rows, True, 1, padding_side="left")
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], True, 0, padding_side="left")
    if model_type in BY_PLACE:
        with pytest.raises(UserError, match="depends on the layer index"), apply_chains(tiny, CHAINS):
            pass
        return
    batch = {"input_ids": ids, "attention_mask": mask}
    before = list(tiny.state_dict())
    with torch.inference_mode():
        plain = padded_error(tiny, batch, rows)
        with apply_chains(tiny, CHAINS):
            found = tiny(**batch, use_cache=False).logits
            texts = written(tiny, **batch)
        for row, tokens, chain, logits, text in zip(range(6), rows, CHAINS, found, texts, strict=True):
            with apply_chain(tiny, chain):
                alone = {name: value[row : row + 1] for name, value in batch.items()}  # padded as in the batch
                expected = tiny(**alone, use_cache=False).logits[0]
                [greedy] = written(tiny, **alone)
            error = float((logits - expected)[-len(tokens) :].abs().max() / expected.abs().max())
            assert error <= max(TOLERANCE, plain), str(chain)
            assert text == greedy or plain > TOLERANCE, str(chain)
    assert list(tiny.state_dict()) == before


def padded_error(model: Any, batch: dict[str, torch.Tensor], rows: list[torch.Tensor]) -> float:
    """How far the plain model's own batch is from its rows."""
    found = model(**batch, use_cache=False).logits
    errors = []
    for row, tokens in enumerate(rows):
        expected = model(**{name: value[row : row + 1] for name, value in batch.items()}, use_cache=False).logits[0]
        errors.append(float((found[row] - expected)[-len(tokens) :].abs().max() / expected.abs().max()))
    return max(errors)


def written(model: Any, **batch: torch.Tensor) -> list[list[int]]:
    new = model.generate(**batch, max_new_tokens=5, do_sample=False, eos_token_id=None)
    return list(new[:, batch["input_ids"].shape[1] :].tolist())


def test_as_many_tokens_as_rows_are_not_mistaken() -> None:
    tiny = tiny_model("gpt2").eval()
    ids = torch.randint(3, 90, (6, 6), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        with apply_chains(tiny, CHAINS):
            found = tiny(ids, use_cache=False).logits
        for row, chain in enumerate(CHAINS):
            with apply_chain(tiny, chain):
                assert torch.allclose(tiny(ids[row : row + 1], use_cache=False).logits[0], found[row], atol=1e-4)
