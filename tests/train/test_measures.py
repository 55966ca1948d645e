"""Controllers of texts learn from another measure than that which labels were made by, told from the scores kept."""

from pathlib import Path

import numpy
import pyarrow.parquet
import pytest

from cola_learn.errors import UserError
from cola_learn.train.data import LabelDataModule

DATA = Path(__file__).parents[2] / "data"
STORE = DATA / "texts" / "pool" / "text_humaneval-train"


def gains(measure: str | None) -> numpy.ndarray:
    """What is learned, by question and chain."""
    module = LabelDataModule(STORE, trials="all", measure=measure, feature_layers=(0,))  # type: ignore[arg-type]
    module.setup("fit")
    return numpy.array([example.gains for example in module.examples])


def test_gains_are_those_of_the_measure() -> None:
    [file] = STORE.glob("scores-*.parquet")
    table = pyarrow.parquet.read_table(file, columns=["scores", "margin"]).to_pydict()
    first, second, divergence, accepted = numpy.array(table["scores"]).T
    likelihood, acceptance, fidelity = gains(None), gains("acceptance"), gains("fidelity")
    shape = likelihood.shape
    margins = numpy.array(table["margin"]).reshape(shape)
    assert likelihood == pytest.approx(margins - margins[:, :1], abs=1e-6)
    assert gains("likelihood").tolist() == likelihood.tolist()
    assert acceptance.ravel() == pytest.approx(numpy.log(numpy.maximum(accepted, 1e-3)), abs=1e-6)
    assert fidelity.ravel() == pytest.approx(numpy.maximum(-divergence, numpy.log(1e-3)), abs=1e-6)
    assert not numpy.allclose(first, second)


def test_labels_that_do_not_tell_it_are_refused() -> None:
    choices = DATA / "menu" / "pool" / "arc_easy-test"
    with pytest.raises(UserError, match=r"arc_easy-test: acceptance cannot be told; label with --reward acceptance"):
        LabelDataModule(choices, trials="all", measure="acceptance")
