"""Two menus joined, against running the chains of both at once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cola_learn.label.store import LabelStore
from tests.end_to_end.conftest import save_tiny

Command = Callable[..., tuple[int, str]]
ONE, OTHER = ("0-3 5", "0-2 2-5"), ("0-1 4-5", "0-3 5", "0-4")


def crossed(command: Command, folder: Path, chains: tuple[str, ...], *more: str) -> Path:
    menu = folder.with_suffix(".txt")
    menu.write_text("".join(f"{chain}\n" for chain in chains))
    backbone = folder.parent / "backbone"
    if not backbone.exists():
        save_tiny(backbone, layers=6)
    tasks = ("--tasks", "arc_easy:test", "winogrande:validation", "--limit", "3", "--backbone", backbone)
    code, said = command("cola_learn.label", "cross", "--menu", menu, *tasks, "--output", folder, *more)
    assert code == 0, said
    return folder


def test_joined_menus_are_what_both_together_would_be(command: Command, tmp_path: Path) -> None:
    one, other = crossed(command, tmp_path / "one", ONE), crossed(command, tmp_path / "other", OTHER)
    code, said = command("cola_learn.label", "widen", one, other, "--output", tmp_path / "wide")
    assert code == 0, said
    lines = ("0-5", "0-3 5", "0-1 (2)x2 3-5", "0-1 4-5", "0-4")
    assert (tmp_path / "wide" / "menu.txt").read_text().splitlines() == list(lines)
    whole = crossed(command, tmp_path / "whole", lines)
    for name in ("arc_easy-test", "winogrande-validation"):
        joined, expected = (LabelStore.open(tmp_path / folder / name) for folder in ("wide", "whole"))
        assert joined.manifest.difference(expected.manifest) is None
        assert joined.read() == expected.read()
    code, said = command("cola_learn.label", "widen", one, whole, "--output", tmp_path / "again")
    assert code == 0, said
    again = crossed(command, whole, lines)
    assert again == whole

    old = LabelStore.open(one / "arc_easy-test")
    bare = LabelStore.create(tmp_path / "bare", old.manifest)
    with bare.writing():  # as versions wrote them that kept no digests
        bare.append([replace(label, digest="") for label in old])
    code, said = command("cola_learn.label", "widen", bare.folder, other / "arc_easy-test", "--output", tmp_path / "b")
    assert code == 0, said
    assert LabelStore.open(tmp_path / "b").read() == LabelStore.open(tmp_path / "wide" / "arc_easy-test").read()

    code, said = command("cola_learn.label", "widen", one / "arc_easy-test", whole, "--output", tmp_path / "x")
    assert (code, "hold other stores" in said) == (2, True)
    scored = crossed(command, tmp_path / "acc", OTHER, "--metric", "acc")
    code, said = command("cola_learn.label", "widen", one, scored, "--output", tmp_path / "y")
    assert (code, "cannot be joined: metric is acc_norm and acc" in said) == (2, True)
    fewer = crossed(command, tmp_path / "fewer", OTHER, "--seed", "1")
    code, said = command("cola_learn.label", "widen", one, fewer, "--output", tmp_path / "z")
    assert (code, "cannot be joined: seed" in said or "are of other questions" in said) == (2, True)
