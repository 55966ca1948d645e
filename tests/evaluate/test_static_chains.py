"""Static chains of labels: which compete, and which is best."""

from pathlib import Path

import pytest

from cola_learn.backbone.backbone import Backbone
from cola_learn.chains import Chain
from cola_learn.evaluate.static_front import static_candidates, static_chains
from cola_learn.label.records import Label, Trial
from cola_learn.label.score_matrix import ScoreMatrix, open_stores
from cola_learn.rewards.judge import Judge
from cola_learn.rewards.judges import make_judge
from cola_learn.tasks.questions import Question


def test_static_candidates_are_short_enough_and_best_first() -> None:
    texts = {"0-5": [1, 0, 1, 0], "0-3 5": [1, 1, 1, 1], "0-2 4-5": [0, 0, 1, 0], "0 (1)x3 2-5": [1, 1, 1, 1]}
    labels = [
        Label(
            "t",
            "s",
            str(index),
            tuple(Trial(Chain.parse(text, 6), float(found[index]), 0.0, 1) for text, found in texts.items()),
        )
        for index in range(4)
    ]
    assert [str(chain) for chain in static_candidates(labels, 5.5, 2)] == ["0-3 5", "0-2 4-5"]
    assert str(static_candidates(labels, 6.0, 1)[-1]) == "0-5"


def test_a_menu_s_own_scores_decide_and_nothing_is_run() -> None:
    stores = open_stores(Path("data/menu/held/openbookqa-validation"), "--held")
    table = ScoreMatrix.load(stores)

    def never(question: Question) -> Judge:
        raise AssertionError

    found = static_chains(never, stores, [26.0], 3, 3)
    means = table.soft.mean(0)
    assert (found.chains, found.questions) == (table.chains, len(table))
    best = found.chain_at(99)
    assert means[table.chains.index(best)] == means.max()
    short = found.chain_at(26)
    assert short.depth <= 26
    assert means[table.chains.index(short)] == means[table.depths <= 26].max()
    column = {chain: table.rewards[:, place] for place, chain in enumerate(table.chains)}
    front = found.on(column.__getitem__)
    first, second = (found.corners + found.corners)[:2]
    between = front.at(0.25 * first.depth + 0.75 * second.depth)
    assert between is not None
    assert between.rewards == pytest.approx(0.25 * column[first] + 0.75 * column[second])
    assert front.at(first.depth - 1) is None


def test_a_search_s_best_chains_are_scored_on_labelled_questions(smollm: Backbone) -> None:
    """Its questions are scored anew, in turns of all stores."""
    stores = open_stores(Path("data/labels/arc_easy-test"))
    judge = make_judge(smollm, stores[0].manifest.scoring)
    found = static_chains(lambda _: judge, stores, [24.0, 30.0], 2, 3)
    assert found.questions == 3
    assert found.chains[0] == Chain.base(30)
    assert 3 <= len(found.chains) <= 5
    assert found.chain_at(24).depth <= 24 or found.chain_at(24) == found.corners[0]
    assert set(found.temperatures) == {"arc_easy"}
