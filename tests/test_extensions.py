"""What docs/architecture.md says of adding to cola-learn, as written there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cola_learn.label.store import LabelStore

TEXT = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", TEXT[TEXT.index("## Adding to it") :], re.S)


def test_all_that_is_written_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here: dict[str, object] = {}
    for kind, block in BLOCKS:
        if kind == "sh":
            paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
            for line in block.splitlines():
                done = subprocess.run(
                    [sys.executable, *line.split()[1:]],
                    capture_output=True,
                    text=True,
                    env={**os.environ, "PYTHONPATH": paths},
                )
                assert done.returncode == 0, done.stderr[-2000:]
        elif name := re.match(r"# (\w+\.py)\n", block):
            Path(name[1]).write_text(block)
        else:
            exec(block, here)  # documentation of ours
    store = LabelStore.open(Path("runs/halves"))
    assert store.manifest.search == {"method": "halves.Halves", "simulations": 2, "kept": 20}
    assert [trial.chain.depth for trial in store.read()[0].trials] == [30, 20]
    assert Path("runs/shy/best.ckpt").exists()
    assert json.loads(Path("runs/brief/report.json").read_text())["policies"]["brief"]["depth"] in (
        28.0,
        28.5,
        29.0,
        29.5,
    )
    assert len(BLOCKS) == 9
