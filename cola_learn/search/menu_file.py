"""Menu files: one chain per line."""

from functools import lru_cache
from pathlib import Path

from cola_learn.chains import Chain
from cola_learn.errors import UserError

LARGEST = 256


@lru_cache(maxsize=8)
def read_menu(file: Path, num_layers: int) -> tuple[Chain, ...]:
    """The chains of a menu file: one a line, ``#`` begins a comment.

    Raises:
        UserError: naming the line that is no chain of so many layers.
    """
    chains: dict[Chain, None] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--menu {file} cannot be read ({error}); python -m cola_learn.label menu makes one") from None
    for number, line in enumerate(lines, start=1):
        text = line.split("#")[0].strip()
        if text:
            try:
                chains[Chain.parse(text, num_layers)] = None
            except ValueError as error:
                raise UserError(f"--menu {file} line {number}: {error}") from None
    if not chains:
        raise UserError(f"--menu {file} holds no chains; write one a line, such as 0-11 14-29")
    return tuple(chains)
