"""Gains drawn towards the means of their task: against plain sums, and only where all chains are the same."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.errors import UserError
from cola_learn.train.batches import Example
from cola_learn.train.data import LabelDataModule, pooled_by_task

DATA = Path(__file__).parents[2] / "data"
GAIN = st.floats(-5, 5, allow_subnormal=False)


@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.tuples(GAIN, GAIN)), min_size=1, max_size=12),
    pooling=st.floats(0, 1),
)
def test_gains_lie_between_their_own_and_their_task_s_mean(
    rows: list[tuple[str, tuple[float, float]]], pooling: float
) -> None:
    features = torch.zeros(1, 1, 4)
    examples = [Example(features, ((1,), (2,)), (1.0, 0.0), gains, (1.0, 0.5), task) for task, gains in rows]
    for (task, gains), found in zip(rows, pooled_by_task(examples, pooling), strict=True):
        others = [own for name, own in rows if name == task]
        for chain in (0, 1):
            mean = sum(own[chain] for own in others) / len(others)
            assert found.gains[chain] == pytest.approx((1 - pooling) * gains[chain] + pooling * mean, abs=1e-9)
        assert (found.task, found.depths, found.features is features) == (task, (1.0, 0.5), True)


def test_validation_questions_keep_their_own_gains() -> None:
    menu = DATA / "menu" / "pool" / "arc_easy-test"
    plain, pooled = (
        LabelDataModule(menu, limit=40, trials="all", validation_share=0.5, task_pooling=share) for share in (0.0, 1.0)
    )
    for data in (plain, pooled):
        data.setup("fit")
    assert [example.gains for example in pooled.validation] == [example.gains for example in plain.validation]
    assert len({example.gains for example in plain.training}) > 1
    assert len({tuple(round(gain, 9) for gain in example.gains) for example in pooled.training}) == 1  # of one task


@pytest.mark.parametrize(
    ("labels", "trials", "share", "message"),
    [
        ("labels/arc_easy-test", "all", 0.5, "--data.task_pooling 0.5 is for labels of one menu"),
        ("menu/pool/arc_easy-test", "good", 0.5, "and --data.trials all"),
        ("menu/pool/arc_easy-test", "all", 1.5, "--data.task_pooling is 1.5; give a number from 0 to 1"),
    ],
)
def test_what_cannot_be_pooled_is_refused(labels: str, trials: str, share: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LabelDataModule(DATA / labels, trials=trials, task_pooling=share, limit=20)  # type: ignore[arg-type]
