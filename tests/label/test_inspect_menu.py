"""What label inspect shows of a menu, against the rewards that are stored beside the scores."""

import re
from collections.abc import Callable
from pathlib import Path

from cola_learn.label.score_matrix import open_stores

Command = Callable[..., tuple[int, str]]
HELD = Path("data/gemma/held")


def test_each_chain_of_a_menu_is_shown_beside_base(command: Command) -> None:
    code, said = command("cola_learn.label", "inspect", HELD)
    assert code == 0, said
    labels = [label for store in open_stores(HELD) for label in store]
    base = sum(label.base.reward for label in labels) / len(labels)
    for place, trial in enumerate(labels[0].trials):
        accuracy = sum(label.trials[place].reward for label in labels) / len(labels)
        row = rf"^ *{re.escape(str(trial.chain))} +{trial.chain.depth} +{accuracy:.1%}"
        assert re.search(row, said, re.MULTILINE), said
        if place:
            shown = re.search(rf"{row} +([+-][\d.]+) \(", said, re.MULTILINE)
            assert shown, said
            assert shown[1] == f"{100 * (accuracy - base):+.1f}"
    assert all(re.search(rf"\b{label.key.split('/')[0]}\b", said) for label in labels)


def test_one_of_several_stores_of_searches_is_asked_for(command: Command) -> None:
    code, said = command("cola_learn.label", "inspect", "data/labels")
    assert code == 2
    assert "store data/labels: arc_challenge-test and dart_math_1-repeat differ in plan.space" in said
