"""Commands on label stores: inspect, merge and verify."""

import random
from collections import Counter

import numpy
from rich.table import Table

from cola_learn.chains import Chain
from cola_learn.console import console, progress_bar
from cola_learn.errors import UserError
from cola_learn.files import write_text
from cola_learn.label.label_options import InspectOptions, MergeOptions, VerifyOptions
from cola_learn.label.score_matrix import ScoreMatrix, of_one_menu, open_stores
from cola_learn.label.single_edits import heat_map
from cola_learn.label.store import LabelStore
from cola_learn.label.summary import Tally
from cola_learn.rewards.judges import make_judge, score_questions
from cola_learn.rewards.reward import REWARDS, use_reward
from cola_learn.stats import Interval, paired_difference, points


def run_inspect(options: InspectOptions) -> None:
    """Print what a store holds; of a menu's, what each chain gains and loses.

    Raises:
        UserError: if there is none, or none of its chains is of a single edit and a heat map is asked for.
    """
    stores = open_stores(options.store, "store")
    menu = of_one_menu(stores)
    if len(stores) == 1:
        _inspect(stores[0], options, listed=not menu)
    elif options.plot or not menu:
        raise UserError(f"store {options.store} holds {len(stores)} stores; name one, such as {stores[0].folder}")
    if menu:
        matrix = ScoreMatrix.load(stores, "store")
        console.print(f"\n{len(matrix):,} questions, {len(matrix.chains)} chains\n")
        console.print(over_all(matrix, REWARDS[stores[0].manifest.scoring.reward].measure))
        if len(stores) > 1:
            console.print("\n", by_task(matrix))


def _inspect(store: LabelStore, options: InspectOptions, listed: bool) -> None:
    """Print what one store holds, with or without the chains that are good for most questions."""
    manifest = store.manifest
    tally = Tally(manifest.model.num_layers, manifest.plan.simulations)
    good: Counter[Chain] = Counter()
    tried: Counter[Chain] = Counter()
    for label in store:
        tally.add(label)
        good.update(trial.chain for trial in label.good)
        tried.update(trial.chain for trial in label.trials)
    if not tally.questions:
        raise UserError(f"{options.store} has no labels yet")
    model, source, scoring, plan = manifest.model, manifest.source, manifest.scoring, manifest.plan
    own = REWARDS.get(scoring.reward)
    judged = own.about.format(metric=scoring.metric, template=scoring.template) if own else scoring.reward
    console.print(
        f"{source.title} through {model.name} ({model.num_layers} layers, {model.dtype}, "
        f"{model.fingerprint}), {judged}\n"
        f"search {plan.method}, {plan.simulations} simulations, {plan.space.operations}, {plan.space.edits} edits, "
        f"seed {plan.seed}\n"
    )
    tally.print(own is not None and own.continuous)
    _print_layers(tally)
    if listed:
        table = Table(title="chains good for most questions", box=None, title_justify="left")
        for name in ("chain", "depth", "good", "tried"):
            table.add_column(name, justify="left" if name == "chain" else "right")
        for chain, count in good.most_common(options.chains):
            table.add_row(str(chain), str(chain.depth), str(count), str(tried[chain]))
        console.print("\n", table)
    if options.plot and (drawn := heat_map(store, manifest.model.num_layers)):
        write_text(options.plot, drawn)
        console.print(f"heat map    {options.plot}", soft_wrap=True)


def _print_layers(tally: Tally) -> None:
    """Bars of eighths: how often the shallowest good chains leave out and repeat each layer."""
    found = max(1, sum(tally.depths.values()))
    console.print("\nin the shallowest good chains, by layer (a full bar is the largest share)")
    for name, counts in (("left out", tally.skipped), ("run again", tally.repeated)):
        most = max(1, int(counts.max()))
        bars = "".join(" ▁▂▃▄▅▆▇█"[round(8 * int(count) / most)] for count in counts)
        console.print(f"  {name:<10}|{bars}| up to {most / found:.0%}")
    depths = ", ".join(f"{depth}: {count}" for depth, count in sorted(tally.depths.items()))
    console.print(f"  depths    {depths}")


def run_merge(options: MergeOptions) -> LabelStore:
    """Join stores; a question that several hold is taken from the first.

    Raises:
        UserError: if their settings differ.
    """
    stores = [LabelStore.open(folder, "store") for folder in options.stores]
    for store in stores[1:]:
        if different := stores[0].manifest.difference(store.manifest):
            name, first, other = different
            raise UserError(
                f"{stores[0].folder} and {store.folder} cannot be joined: {name} is {first} in the first, {other} in "
                "the other"
            )
    merged = LabelStore.create(options.output, stores[0].manifest)
    with merged.writing():
        known = merged.keys()
        for store in stores:
            fresh = [label for label in store if label.key not in known]
            merged.append(fresh)
            merged.keep(store.questions("store").values())
            known.update(label.key for label in fresh)
            console.print(f"{store.folder}: {len(fresh)} labels added", soft_wrap=True)
        merged.compact(sorted(known))
    console.print(f"labels      {options.output} ({len(known)} questions)", soft_wrap=True)
    return merged


def run_verify(options: VerifyOptions) -> int:
    """Run stored chains again, each alone and with nothing kept; returns how many rewards differ.

    Raises:
        UserError: if any differs, or the store's backbone or questions are not to be had.
    """
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit} verifies nothing; give at least 1")
    if options.reward:
        use_reward(options.reward)
    store = LabelStore.open(options.store, "store")
    manifest = store.manifest
    questions = store.questions("store")
    keys = sorted(store.keys())
    if options.limit is not None:
        keys = random.Random(options.seed).sample(keys, min(options.limit, len(keys)))
    chosen = set(keys)
    backbone = manifest.load_backbone(f"labels {options.store}", None, options.device, manifest.model.dtype)
    judge = make_judge(backbone, manifest.scoring, cache_gib=0).reference()
    checked = differ = moved = 0
    with progress_bar() as bar:
        task = bar.add_task("verify", total=len(keys), unit="questions", note="")
        for label in store:
            if label.key not in chosen:
                continue
            question, trials = questions[label.key], label.trials if options.chains == "all" else label.good
            chains = [trial.chain for trial in trials]
            [(_, scores)] = score_questions(judge, [question], chains, manifest.scoring.template, together=0)
            for trial in trials:
                score = scores[trial.chain]
                checked += 1
                differ += score.reward(question.gold) != trial.reward
                moved += score.margin(question.gold) != trial.margin
            bar.advance(task)
            bar.update(task, note=f"{checked} chains, {differ} differ")
    console.print(
        f"{checked} chains of {len(keys)} questions re-verified in isolation: {differ} rewards differ, {moved} "
        "margins differ in any bit"
    )
    if differ:
        raise UserError(f"{options.store}: {differ} of {checked} rewards are not what was stored")
    return checked


_MOST_COLUMNS = 12


def over_all(matrix: ScoreMatrix, measure: str = "accuracy") -> Table:
    """A row for each chain, deepest first and of one depth the best first: the change in the mean reward, and the gain
    in the log-probability of the right option, or of a response a token, paired by question, with 95% intervals."""
    table = Table(title="each chain beside the base chain (95% intervals)", box=None, title_justify="left")
    for name in ("chain", "depth", measure, "change, points", "gain in log-probability, nats"):
        table.add_column(name, justify="left" if name == "chain" else "right", no_wrap=name == "chain")
    for place in _order(matrix):
        accuracy = f"{matrix.rewards[:, place].mean():.1%}"
        row = [str(matrix.chains[place]), str(matrix.chains[place].depth), accuracy]
        if place:
            change = paired_difference(matrix.rewards[:, place], matrix.rewards[:, 0])
            row += [points(change), _nats(paired_difference(matrix.soft[:, place], matrix.soft[:, 0]))]
        table.add_row(*row)
    return table


def by_task(matrix: ScoreMatrix) -> Table:
    """The gain of each chain in the log-probability of the right option, in the mean over each task's questions."""
    tasks = numpy.unique(matrix.tasks)
    table = Table(title="gain in log-probability by task, nats", box=None, title_justify="left")
    if len(tasks) > _MOST_COLUMNS:
        table.title = "of each task the chain that gains most beside base, nats"
        for name in ("task", "questions", "chain", "gain"):
            table.add_column(name, justify="left" if name in ("task", "chain") else "right", no_wrap=True)
        for task in tasks:
            own = matrix.tasks == task
            means = (matrix.soft[own] - matrix.soft[own, :1]).mean(0)
            best = 1 + int(means[1:].argmax())
            table.add_row(str(task), str(own.sum()), str(matrix.chains[best]), f"{means[best]:+.3f}")
        return table
    table.add_column("chain", no_wrap=True)
    for task in tasks:
        table.add_column(str(task), justify="right")
    for place in _order(matrix):
        gains = matrix.soft[:, place] - matrix.soft[:, 0]
        if place:
            table.add_row(str(matrix.chains[place]), *(f"{gains[matrix.tasks == task].mean():+.3f}" for task in tasks))
    return table


def _order(matrix: ScoreMatrix) -> list[int]:
    means = matrix.soft.mean(0)
    return sorted(range(len(matrix.chains)), key=lambda place: (-matrix.chains[place].depth, -means[place]))


def _nats(interval: Interval) -> str:
    return f"{interval.mean:+.3f} ({interval.low:+.3f}, {interval.high:+.3f})"
