"""Finished parts of a long measurement, one JSON line each, from which a killed run resumes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cola_learn.errors import UserError
from cola_learn.files import writable_folder, write_text


class Journal:
    """A file whose first line holds the settings that all other lines were measured with.

    Args:
        file: to read, and to go on with.
        settings: whatever the parts depend on; how many are wanted is not among it.

    Attributes:
        parts: the finished ones.

    Raises:
        UserError: if the file is no journal or was measured with other settings.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]) -> None:
        writable_folder(file.parent)
        head = json.loads(json.dumps({"settings": settings}, default=str))
        text = file.read_text() if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # the process may have been killed within a line
        try:
            first, *self.parts = [json.loads(line) for line in whole.splitlines()] or [head]
        except ValueError as error:
            raise UserError(f"--output {file} is no journal of a measurement ({error}); name another file") from None
        if first != head:
            raise UserError(f"--output {file} was measured with other settings ({first}); name another file")
        if not whole:
            whole = json.dumps(head) + "\n"
        if whole != text:
            write_text(file, whole)
        self._file = file

    def add(self, part: Mapping[str, Any]) -> None:
        """Keep one more."""
        line = json.dumps(part)
        self.parts.append(json.loads(line))
        with self._file.open("a") as lines:
            lines.write(line + "\n")
