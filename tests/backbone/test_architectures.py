"""The table in docs/architectures.md stays true: what it says replays does, what it says is refused is."""

import re
from pathlib import Path

import pytest

from tests.architectures import TOLERANCE, examine

ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in Path("docs/architectures.md").read_text().splitlines()
    if re.match(r"\| [a-z]", line) and not line.startswith("| model type")
]


def within(cell: str) -> bool:
    return cell in ("", "exact") or float(cell) <= TOLERANCE


SOUND = [row[0] for row in ROWS if row[2] and within(row[2]) and within(row[3])]
SLOTS = {row[0]: row[6] == "yes" for row in ROWS}
REFUSED = [row[0] for row in ROWS if row[7].startswith("refused")]
ALWAYS = {  # of each kind some: the others are for make test-all
    *(
        "llama",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "qwen3_next",
        "mistral",
        "mixtral",
        "gemma2",
        "gemma3_text",
        "gemma4_text",
    ),
    *("phi", "phi3", "olmo2", "olmo3", "olmoe", "stablelm", "cohere", "granite", "smollm3", "glm", "gpt_oss", "lfm2"),
    *(
        "falcon",
        "gpt_neox",
        "gpt2",
        "opt",
        "bloom",
        "mamba",
        "deepseek_v3",
        "falcon_h1",
        "rwkv",
        "xlnet",
        "gemma3n_text",
    ),
}


def broad(model_types: list[str]) -> list[object]:
    """The types as parameters, slow but for some of each kind."""
    return [pytest.param(name, marks=() if name in ALWAYS else (pytest.mark.slow,), id=name) for name in model_types]


def test_the_table_has_the_breadth_it_claims() -> None:
    text = Path("docs/architectures.md").read_text()
    assert f"causal-LM model types {len(SOUND)} replay correctly" in " ".join(text.split())
    assert len(SOUND) > 150
    assert {*SOUND, *REFUSED} >= ALWAYS


@pytest.mark.parametrize("model_type", broad(SOUND))
def test_sound_architectures_replay(model_type: str) -> None:
    finding = examine(model_type)
    assert finding.base is not None, finding.note
    assert SLOTS[model_type] == finding.slotted
    assert finding.base <= TOLERANCE
    assert finding.chains is None or finding.chains <= TOLERANCE


@pytest.mark.parametrize("model_type", broad(REFUSED))
def test_unsuitable_architectures_are_refused(model_type: str) -> None:
    assert examine(model_type).note.startswith(f"refused: backbone {model_type}: ")
