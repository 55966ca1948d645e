"""Full search of the held-out questions with the gold answer, and its luck control."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy

from cola_learn.backbone.backbone import Backbone
from cola_learn.errors import UserError
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.inputs import HeldOut
from cola_learn.evaluate.results import LuckControl, Result
from cola_learn.label.labeller import Labeller
from cola_learn.label.manifest import Manifest
from cola_learn.label.plan import Job, Plan
from cola_learn.label.records import Label
from cola_learn.label.run import fill_store, start_workers
from cola_learn.label.score_matrix import Array, open_stores
from cola_learn.label.store import LabelStore
from cola_learn.rewards.judge import ModelJudge
from cola_learn.tasks.questions import Question


def run_searches(
    backbone: Backbone,
    judge_of: Callable[[Question], ModelJudge],
    stores: Sequence[LabelStore],
    held: HeldOut,
    options: EvaluateOptions,
) -> dict[str, Label]:
    """Labels of the held-out questions, by their keys: those of ``--searched``, or a search like that of the labels.

    Raises:
        UserError: if those given do not fit.
    """
    if options.searched is not None:
        return _given(options.searched, stores, held)
    manifest = stores[0].manifest
    plan = Plan(options.search, manifest.plan.space, seed=options.seed)
    labels: dict[str, Label] = {}
    for key, (task, _) in held.names.items():
        questions = [question for question in held.questions if (question.task, question.split) == key]
        job = Job(backbone.name, held.scoring(questions[0]), plan, options.resources(manifest.model.dtype))
        here = job.resources.workers == 1 and job.resources.executor == "local"
        with closing(Labeller(judge_of(questions[0]), job) if here else start_workers(job)) as workers:
            folder = options.output / "search" / "-".join(key)
            store = LabelStore.create(folder, Manifest.of(workers.identity, job, task, questions[0]))
            fill_store(store, workers, questions, plan, "full search")
        labels |= {label.key: label for label in store}
    return labels


def searches_of(options: EvaluateOptions, stores: Sequence[LabelStore]) -> str:
    """The budget of the searches, for people."""
    manifest = open_stores(options.searched, "--searched")[0].manifest if options.searched else None
    budget = (
        manifest.plan.simulations
        if manifest
        else options.search.budget(stores[0].manifest.model.num_layers, stores[0].manifest.plan.space)
    )
    return f"{budget} simulations a question"


def _given(folder: Path, stores: Sequence[LabelStore], held: HeldOut) -> dict[str, Label]:
    """The labels of stores of the user's.

    Raises:
        UserError: if they are of another model or scored otherwise, or some of the questions have none.
    """
    found: dict[str, Label] = {}
    for store in open_stores(folder, "--searched"):
        mine, theirs = store.manifest.model.fingerprint, stores[0].manifest.model.fingerprint
        if mine != theirs:
            raise UserError(f"--searched {store.folder} was made with fingerprint {mine}, the --labels with {theirs}")
        labelled = store.keys()
        own = [question for question in held.questions if question.key in labelled]
        for question in own[:1]:
            if (scoring := store.manifest.scoring) != held.scoring(question):
                raise UserError(
                    f"--searched {store.folder} was scored with {scoring}; {question.task} is with "
                    f"{held.scoring(question)}"
                )
        store.check(own, "--searched")
        found |= {label.key: label for label in store}
    if missing := [question.key for question in held.questions if question.key not in found]:
        raise UserError(
            f"--searched {folder} lacks {len(missing)} of {len(held.questions)} questions, such as {missing[0]}; label "
            "them too, or leave --searched out"
        )
    return found


def search_oracle(questions: Sequence[Question], labels: Mapping[str, Label], measured: bool) -> Result:
    """The shallowest good chain of each question's search; base where there is none. Where rewards are measures, with
    what it gains."""
    own = [labels[question.key] for question in questions]
    best = [label.good[0] if label.good else label.base for label in own]
    return Result(
        "search_oracle",
        numpy.array([trial.reward for trial in best]),
        numpy.array([trial.chain.depth for trial in best], dtype=float),
        chains=tuple(trial.chain for trial in best),
        answers=tuple(question.gold if label.good else -1 for question, label in zip(questions, own, strict=True)),
        oracle=True,
        gains=numpy.array([one.margin - label.base.margin for one, label in zip(best, own, strict=True)])
        if measured
        else None,
    )


def luck_of(labels: Mapping[str, Label]) -> LuckControl | None:
    """The same searches with a wrong option, which base does not answer with either, in the place of the gold one;
    None where there was no such search."""
    found = [bool(label.luck.found) for label in labels.values() if label.luck is not None and not label.base_good]
    return LuckControl(len(found), sum(found) / len(found)) if found else None


def difficulty(questions: Sequence[Question], labels: Mapping[str, Label]) -> Array:
    """Share of the chains that a question's search tried which do not answer it rightly, ``[Q]``."""
    trials = [labels[question.key].trials for question in questions]
    return numpy.array([1 - sum(trial.reward for trial in own) / len(own) for own in trials])
