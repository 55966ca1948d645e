"""Nothing that comes with a model is executed, and nothing is unpickled, unless the user asks for it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(file for folder in ("cola_learn", "benchmarks") for file in (ROOT / folder).rglob("*.py"))


def calls(file: Path) -> Iterator[tuple[str, set[str | None]]]:
    """What is called in a file, as written, with the names of its keyword arguments."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg for keyword in node.keywords}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_loads_say_whether_code_is_trusted(file: Path) -> None:
    for called, keywords in calls(file):
        if called.startswith("Auto") and called.endswith(".from_pretrained"):
            assert "trust_remote_code" in keywords or None in keywords, called  # None: **options that hold it
        if called == "torch.load":
            assert "weights_only" in keywords
        assert called not in ("pickle.load", "pickle.loads", "eval", "exec")
