"""The documentation: its site builds with every link in place, and its commands are understood."""

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WRITTEN_THERE = (
    "halves.Halves",
    "shy.SHY",
    "brief.BRIEF",
)  # classes that docs/architecture.md writes; tests/test_extensions.py runs them
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> dict[str, list[str]]:
    """Every ``python -m cola_learn...`` in a shell block, but for those with variables in them."""
    found = {}
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.strip()
                if (
                    line.startswith("python -m cola_learn.")
                    and not re.search(r"[${*]", line)
                    and not any(name in line for name in WRITTEN_THERE)
                ):
                    words = shlex.split(line, comments=True)[2:]
                    found[f"{page.stem}: {' '.join(words)}"] = words
    return found


def test_the_site_builds_and_no_link_leads_nowhere(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(asked, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    reference = (tmp_path / "site" / "reference" / "index.html").read_text()
    assert "ColaForCausalLM" in reference


def test_there_are_commands() -> None:
    assert len(commands()) > 30


@pytest.mark.parametrize("words", commands().values(), ids=commands())
def test_every_command_is_understood(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its options exist and take what they are given; it is not run."""
    monkeypatch.chdir(ROOT)
    module, *arguments = words
    home = module if module.count(".") > 1 or module.endswith("assets") else f"{module}.__main__"
    if module.endswith((".assets", ".harness")):
        assert import_module(home)
        return
    with pytest.raises(SystemExit) as ended:
        import_module(home).main([*arguments, "--print_config"])
    assert ended.value.code in (0, None), capsys.readouterr().err
