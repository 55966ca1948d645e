"""``questions.parquet``: what every policy made of every question, a row each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from cola_learn.errors import UserError, first_line
from cola_learn.files import replacing

FILE = "questions.parquet"
_NEEDED = ("policy", "oracle", "question", "digest", "reward", "depth")


def write_answers(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with at least ``policy``, whether it is an ``oracle``, ``question``, its ``digest``, ``reward`` and
    ``depth``.

    Raises:
        UserError: if the file cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    with replacing(folder / FILE) as scratch:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), scratch, write_page_checksum=True)


class Answers:
    """The file of an evaluation.

    Args:
        folder: of the evaluation.

    Attributes:
        folder: as given.
        questions: their keys with digests of what is asked, in order of the keys.
        rewards, depths: of each policy, by its name, ``[Q]``.
        oracles: names of those that know what no deployed policy can.

    Raises:
        UserError: if there is none, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow.parquet

        self.folder = folder
        try:
            table = pyarrow.parquet.read_table(folder / FILE, columns=list(_NEEDED), page_checksum_verification=True)
        except Exception as error:  # whatever a missing or damaged file makes pyarrow raise
            raise UserError(
                f"{folder} is no evaluation with a {FILE} ({first_line(error)}); "
                "python -m cola_learn.evaluate writes one"
            ) from None
        found = table.to_pandas().sort_values("question", kind="stable")
        own = {str(name): rows for name, rows in found.groupby("policy", sort=False)}
        self.questions = _named(next(iter(own.values()))) if own else []
        self.rewards: dict[str, NDArray[numpy.float64]] = {}
        self.depths: dict[str, NDArray[numpy.float64]] = {}
        self.oracles = {name for name, rows in own.items() if rows["oracle"].any()}
        for name, rows in own.items():
            if _named(rows) != self.questions:
                raise UserError(f"{folder / FILE} has other questions for {name} than for the first policy")
            self.rewards[name] = rows["reward"].to_numpy(dtype=float)
            self.depths[name] = rows["depth"].to_numpy(dtype=float)


def _named(rows: Any) -> list[tuple[str, str]]:
    return list(zip(rows["question"], rows["digest"], strict=True))
