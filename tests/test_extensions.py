"""What docs/architecture.md says of adding to cola-learn, as written there."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cola_learn.label.manifest import Searched
from cola_learn.label.store import LabelStore

TEXT = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
Command = Callable[..., tuple[int, str]]
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", TEXT[TEXT.index("## Adding to it") :], re.S)


def test_all_that_is_written_runs(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    here: dict[str, object] = {}
    for kind, block in BLOCKS:
        if kind == "sh":
            for line in block.splitlines():
                module, *arguments = shlex.split(line)[2:]
                code, said = command(module, *arguments)
                assert code == 0, said
        elif name := re.match(r"# (\w+\.py)\n", block):
            Path(name[1]).write_text(block)
        else:
            exec(block, here)  # documentation of ours
    store = LabelStore.open(Path("runs/halves"))
    assert store.manifest.plan == Searched("halves.Halves", {"simulations": 2, "kept": 20}, 2)
    assert [trial.chain.depth for trial in store.read()[0].trials] == [30, 20]
    assert Path("runs/shy/best.ckpt").exists()
    [brief] = [
        row for row in json.loads(Path("runs/brief/report.json").read_text())["rows"] if row["policy"] == "brief"
    ]
    assert brief["depth"] in (28.0, 28.5, 29.0, 29.5)
    assert len(BLOCKS) == 10
