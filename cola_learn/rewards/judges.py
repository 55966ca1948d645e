"""Making the judge for a scoring, and scoring questions with it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from cola_learn.backbone.backbone import Backbone
from cola_learn.chains import Chain
from cola_learn.console import progress_bar
from cola_learn.rewards.judge import Judge, ModelJudge
from cola_learn.rewards.reward import reward_of
from cola_learn.rewards.scores import Scores
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.questions import Question, Template, as_sample

AnyJudge = TypeVar("AnyJudge", bound=Judge)


def make_judge(backbone: Backbone, scoring: Scoring, cache_gib: float | None = None) -> ModelJudge:
    """The judge of a scoring.

    Args:
        backbone: what it runs.
        scoring: what it goes by; ``Scoring.of`` some questions says what auto is for them.
        cache_gib: memory for hidden states that chains share, in GiB; 0 keeps nothing, by default a share of what is
            free.

    Raises:
        ValueError: if its metric is still auto.
        UserError: if its reward is the user's own and has not been named.
    """
    if scoring.metric == "auto":
        raise ValueError("the metric is auto; Scoring(...).of(questions) is what that means for some questions")
    cache_bytes = None if cache_gib is None else int(cache_gib * 2**30)
    cut = scoring.truncate == "left"
    reward = reward_of("choices" if scoring.reward == "auto" else scoring.reward)
    return reward.judge(backbone, cache_bytes, scoring.metric, scoring.prompt, cut)


def score_questions(
    judge: Judge,
    questions: Iterable[Question],
    chains: Sequence[Chain] | Callable[[Question], Sequence[Chain]],
    template: Template = "cloze",
    together: int = 1,
) -> Iterator[tuple[Question, dict[Chain, Scores]]]:
    """Open, score and close questions, in their order.

    Args:
        judge: scores the chains.
        questions: what they run on.
        chains: the same for all questions, or those of each.
        template: how questions are written.
        together: questions that are scored in one call; 0 scores every chain in a call of its own.

    Yields:
        Each question with the scores of its chains.
    """
    waiting = iter(questions)
    while group := list(islice(waiting, max(1, together))):
        for question in group:
            judge.open(as_sample(question, template))
        own = {question: chains(question) if callable(chains) else chains for question in group}
        requests = [(question.key, chain) for question, some in own.items() for chain in some]
        calls = [requests] if together else [[request] for request in requests]
        scores = iter([score for call in calls for score in judge.score(call)])
        found: dict[str, dict[Chain, Scores]] = {question.key: {} for question in group}
        for key, chain in requests:
            found[key][chain] = next(scores)
        for question in group:
            judge.close(question.key)
        yield from ((question, found[question.key]) for question in group)


def score_all(
    judge_of: Callable[[Question], Judge],
    questions: Sequence[Question],
    chains: Callable[[Question], Sequence[Chain]],
    template: Template,
    together: int,
    title: str,
) -> list[dict[Chain, Scores]]:
    """``score_questions`` for questions of several judges, under a progress bar with a title: the scores of each
    question's chains, in the order of the questions."""
    found: dict[str, dict[Chain, Scores]] = {}
    with progress_bar() as bar:
        total = sum(len(chains(question)) for question in questions)
        task = bar.add_task(title, total=total, unit="chains", note="")
        for judge, own in by_judge(judge_of, sorted(questions, key=lambda question: len(question.text))):
            for question, scores in score_questions(judge, own, chains, template, together):
                found[question.key] = scores
                bar.advance(task, len(scores))
    return [found[question.key] for question in questions]


def by_judge(
    judge_of: Callable[[Question], AnyJudge], questions: Iterable[Question]
) -> list[tuple[AnyJudge, list[Question]]]:
    """The questions of each judge, in their order."""
    groups: dict[int, tuple[AnyJudge, list[Question]]] = {}
    for question in questions:
        judge = judge_of(question)
        groups.setdefault(id(judge), (judge, []))[1].append(question)
    return list(groups.values())
