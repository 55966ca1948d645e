"""What a label run prints: the first prompt, and what its labels hold."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy

from cola_learn.backbone.load import max_tokens_of
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.chains import Chain
from cola_learn.console import console, printable
from cola_learn.errors import UserError
from cola_learn.label.records import Label
from cola_learn.rewards.continuations import too_long
from cola_learn.rewards.reward import reward_of
from cola_learn.rewards.scoring import Scoring
from cola_learn.stats import Interval, paired_difference
from cola_learn.tasks.questions import Question, as_sample


class Tally:
    """Counts over labels.

    Args:
        num_layers: N of the backbone.
        simulations: budget of each search.

    Attributes:
        depths: how many labels have a shallowest good chain of each depth.
        skipped, repeated: for each layer, how many of those chains leave it out, and its extra executions over them.
        examples: the first fifty labels as rows of a table.
    """

    EXAMPLE_COLUMNS = ("id", "base_reward", "shortest_good_chain", "depth", "margin", "good_chains", "tried", "luck")

    def __init__(self, num_layers: int, simulations: int) -> None:
        self.questions = self.right = self.shortened = self.wrong = self.corrected = self.tried = self.good = 0
        self.depths: Counter[int] = Counter()
        self.skipped = numpy.zeros(num_layers, int)
        self.repeated = numpy.zeros(num_layers, int)
        self.examples: list[tuple[object, ...]] = []
        self._base = Chain.base(num_layers)
        self._pairs: Counter[tuple[bool, bool]] = Counter()
        self._neighbours = self._neighbours_good = 0
        self._found_at = {name: numpy.zeros(simulations + 1, int) for name in ("shortened", "corrected", "luck")}

    def add(self, label: Label) -> None:
        """Count one more label."""
        self.questions += 1
        self.tried += len(label.trials)
        self.good += len(label.good)
        if label.base_good:
            self.right += 1
            self.shortened += label.shortened
            shorter = [trial.simulation for trial in label.good if trial.chain.depth < self._base.depth]
            self._mark("shortened", shorter)
        else:
            self.wrong += 1
            self.corrected += label.corrected
            self._mark("corrected", [trial.simulation for trial in label.good])
            if label.luck:
                self._pairs[bool(label.good), bool(label.luck.found)] += 1
                self._mark("luck", [simulation for _, simulation in label.luck.found])
        if label.good:
            best = label.good[0]
            self.depths[best.chain.depth] += 1
            runs = numpy.bincount(best.chain.layers, minlength=len(self.skipped))
            self.skipped += runs == 0
            self.repeated += numpy.maximum(runs - 1, 0)
            self._neighbours += best.neighbours
            self._neighbours_good += best.neighbours_good
        if len(self.examples) < 50:
            self.examples.append(_example(label))

    @property
    def lucky(self) -> float | None:
        """Of the wrong answers with a luck control, the share whose wrong option was reached; None without any."""
        pairs = sum(self._pairs.values())
        return sum(count for (_, luck), count in self._pairs.items() if luck) / pairs if pairs else None

    @property
    def beyond_luck(self) -> Interval | None:
        """Share corrected minus share lucky on the same wrong answers; None without a luck control."""
        pairs = sorted(self._pairs.elements())  # in whatever order the labels came, the interval is the same
        return paired_difference([gold for gold, _ in pairs], [luck for _, luck in pairs]) if pairs else None

    @property
    def robustness(self) -> float | None:
        """Share of good chains among those one edit away from the shallowest good one; None if none was tried."""
        return self._neighbours_good / self._neighbours if self._neighbours else None

    def numbers(self) -> dict[str, float]:
        """Shares of right (shortened) and wrong (corrected) answers, and means; without what is not known."""
        found = sum(self.depths.values())
        numbers = {
            "questions": self.questions,
            "base_accuracy": self.right / max(1, self.questions),
            "shortened": self.shortened / max(1, self.right),
            "corrected": self.corrected / max(1, self.wrong),
            "lucky": self.lucky,
            "robustness": self.robustness,
            "mean_depth": sum(depth * count for depth, count in self.depths.items()) / max(1, found),
            "chains_tried": self.tried,
            "good_chains": self.good,
        }
        return {name: value for name, value in numbers.items() if value is not None}

    def found_so_far(self) -> list[dict[str, float]]:
        """For each number of simulations, the shares shortened, corrected and lucky within so many."""
        totals = {"shortened": self.right, "corrected": self.wrong, "luck": sum(self._pairs.values())}
        curves = {name: numpy.cumsum(counts) / max(1, totals[name]) for name, counts in self._found_at.items()}
        steps = range(1, len(next(iter(curves.values()))))
        return [{name: float(curve[step]) for name, curve in curves.items()} for step in steps]

    def print(self, continuous: bool = False) -> None:
        """The summary for people; where rewards are ``continuous``, base is always good."""
        numbers, beyond = self.numbers(), self.beyond_luck
        if continuous:
            rows = {
                "prompts": str(self.questions),
                "chains tried": f"{self.tried}, of which good {self.good}",
                "prompts with a shorter good chain": f"{numbers['shortened']:.1%}",
            }
        else:
            rows = {
                "questions": f"{self.questions}, base accuracy {numbers['base_accuracy']:.1%}",
                "chains tried": f"{self.tried}, of which good {self.good}",
                "right answers with a shorter right chain": f"{numbers['shortened']:.1%} of {self.right}",
                "wrong answers with some right chain": f"{numbers['corrected']:.1%} of {self.wrong}",
            }
        if beyond:
            rows["the same for a wrong option: luck"] = f"{self.lucky:.1%} of {sum(self._pairs.values())}"
            rows["corrected beyond luck"] = (
                f"{100 * beyond.mean:+.1f} points (95% {100 * beyond.low:+.1f} to {100 * beyond.high:+.1f})"
            )
        rows["mean depth of the shallowest good chain"] = f"{numbers['mean_depth']:.1f} of {self._base.depth}"
        if self.robustness is not None:
            rows["good chains one edit away from it"] = f"{self.robustness:.1%} of {self._neighbours}"
        console.print("\n".join(f"{name:<42}{value}" for name, value in rows.items()))

    def _mark(self, name: str, simulations: list[int]) -> None:
        if simulations:
            self._found_at[name][min(*simulations, len(self._found_at[name]) - 1)] += 1


def _example(label: Label) -> tuple[Any, ...]:
    best = label.good[0] if label.good else label.base
    luck = str(label.luck.found[-1][0]) if label.luck and label.luck.found else ""
    return (
        label.id,
        label.base.reward,
        str(best.chain),
        best.chain.depth,
        best.margin,
        len(label.good),
        len(label.trials),
        luck,
    )


_SHOWN = 320  # characters of a prompt at the start of a run


def show_prompt(question: Question, scoring: Scoring, encoder: PromptEncoder, whole: bool = True) -> str:
    """Print a question as it was read: its prompt, its options and which one is gold. No weights are loaded.

    Args:
        question: the question.
        scoring: of the run.
        encoder: of the model.
        whole: the whole prompt, alone on standard output, with all that is scored behind it; else the end of it.

    Returns:
        The prompt.
    """
    text, behind, gold, title, _ = reward_of(scoring.reward).asked(
        question, scoring.template, scoring.prompt, encoder.tokenizer
    )
    marks = [" <- gold" if index == gold else "" for index in range(len(behind))]
    if not text.startswith(encoder.special_tokens):
        text = encoder.special_tokens + text
    shown = text if whole or len(text) <= _SHOWN else f"... {text[-_SHOWN:]}"
    console.rule(f"first question as it was read: {question.key}")
    if whole:
        print(printable(shown), flush=True)
    else:
        console.print(shown, soft_wrap=True)
    console.print(title, style="dim", soft_wrap=True)
    for continuation, mark in zip(behind, marks, strict=False):
        line = f"  {continuation!r}{mark}"
        if whole:
            print(printable(line), flush=True)
        else:
            console.print(line if len(line) < 200 else f"{line[:190]} ...{mark}", soft_wrap=True)
    console.rule()
    return text


def check_lengths(questions: Sequence[Question], scoring: Scoring, encoder: PromptEncoder, backbone: str) -> int:
    """Find the questions that are longer than the model reads, before anything is run; returns how many will be cut.

    Raises:
        UserError: naming the first, unless they are to be cut.
    """
    most = max_tokens_of(backbone)
    reward, long = reward_of(scoring.reward), list[tuple[str, int]]()
    for question in questions:
        asked = reward.asked(question, scoring.template, scoring.prompt, encoder.tokenizer)
        texts = [asked.text] if asked.writes else as_sample(question, scoring.template).whole()
        longest = max(texts, key=len)
        if len(longest.encode()) + asked.writes + 8 <= most:  # no token is shorter than a byte
            continue
        tokens = len(encoder.prompt(longest)) + (asked.writes or -1)
        if tokens > most:
            long.append((question.key, tokens))
    if long and scoring.truncate == "no":
        others = f" ({len(long) - 1} more are too long)" if len(long) > 1 else ""
        raise UserError(too_long(*long[0], most) + others)
    if long:
        console.print(
            f"{len(long)} of {len(questions)} prompts are longer than the {most} tokens that the model reads; their "
            "beginnings are cut"
        )
    return len(long)
