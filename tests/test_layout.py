"""The house stays in order: imports point down the pipeline only, in no circle, and files are short enough to read."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cola_learn"
# From what everybody may use to what uses everything.
ORDER = (
    *("errors", "files", "console", "chains", "stats", "plots", "tracking", "command", "assets"),
    *("backbone", "search", "tasks", "rewards", "label", "train", "infer", "evaluate", "export", "__main__"),
)
LONGEST = 350  # lines


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_of(file: Path) -> set[str]:
    """Modules of the package that a file imports, wherever in it, for types too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cola_learn"):
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found.add(inner if inner in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.startswith("cola_learn")}
    return found


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}
GRAPH = {name: imports_of(file) for name, file in MODULES.items() if name != "cola_learn"}  # which loads all lazily


def place(name: str) -> int:
    return ORDER.index(name.split(".")[1])


def test_all_imports_point_down() -> None:
    up = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if other != "cola_learn" and place(other) > place(name)
    ]
    assert not up


def test_there_is_no_circle() -> None:
    inner = {name: others - {name} for name, others in GRAPH.items() if name.count(".") > 1 or name not in PACKAGES}
    try:
        list(TopologicalSorter(inner).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


PACKAGES = {name for name, file in MODULES.items() if file.name == "__init__.py"}


@pytest.mark.parametrize("name", MODULES)
def test_files_can_be_read_at_once(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= LONGEST


def test_no_file_name_stands_twice() -> None:
    names = [file.name for file in MODULES.values() if not file.name.startswith("__")]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)


def test_the_architecture_names_every_file() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    assert not [file for file in MODULES.values() if not file.name.startswith("__") and file.name not in page]


def test_serving_imports_the_backbone_and_the_controller_alone() -> None:
    code = (
        "import sys, cola_learn.infer.model; print(*(name for name in sys.modules if name.startswith('cola_learn.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name.split(".")[1] in ("search", "rewards", "label", "evaluate", "export")]
    assert len(loaded) <= 47
