"""Menus: short lists of chains that are all tried on every question."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial

import numpy

from cola_learn.chains import Chain, Edit, Skip
from cola_learn.console import console, next_command, progress_bar
from cola_learn.errors import UserError
from cola_learn.files import write_text
from cola_learn.label.clusters import clusters_of
from cola_learn.label.label_options import MenuOptions
from cola_learn.label.records import Label
from cola_learn.label.score_matrix import apart, questions_of
from cola_learn.label.single_edits import edit_gains
from cola_learn.label.store import LabelStore
from cola_learn.rewards.judge import Judge
from cola_learn.rewards.judges import by_judge, make_judge, score_questions
from cola_learn.rewards.reward import reward_of
from cola_learn.rewards.scores import Scores
from cola_learn.rewards.temperature import Array, soft_rewards
from cola_learn.search.listed import LARGEST
from cola_learn.tasks.questions import Question, Template


def run_menu(options: MenuOptions) -> list[Chain]:
    """Make a menu and write it.

    Raises:
        UserError: if the stores cannot be read, differ in model or prompts, or give no chain.
    """
    if not 2 <= options.size <= LARGEST:
        raise UserError(f"--size {options.size} makes no menu; give 2 to {LARGEST}")
    stores = [LabelStore.open(folder) for folder in options.labels]
    manifest = stores[0].manifest
    for store in stores[1:]:
        if name := apart(stores[0], store, ("model.fingerprint", "model.special_tokens", "scoring.template")):
            raise UserError(f"--labels: {stores[0].folder} and {store.folder} differ in {name}")
    labels = [store.read() for store in stores]
    base = Chain.base(manifest.model.num_layers)
    gains = pooled_gains(labels, scaled=not reward_of(manifest.scoring.reward).continuous)
    best = sorted(gains, key=lambda edit: (-_shrunk(*gains[edit]), str(edit)))
    composed: dict[Chain, Array] = {}
    if options.compose and best:
        composed = _composed(stores, labels, best, options)
        _show(composed)
    singles = [Chain.from_edits([edit], base.num_layers) for edit in best[: options.size // 3]]
    wanted = [base, *composed, *singles, *covering([label for own in labels for label in own], options.size)]
    menu = list(dict.fromkeys(wanted))[: options.size]
    if len(menu) < 2:
        raise UserError("--labels hold no chains to make a menu of; label with --search Scan, or MCTS")
    chains = [base, *sorted(menu[1:], key=lambda chain: (chain.depth, chain.layers))]
    write_text(options.output, "".join(f"{chain}\n" for chain in chains))
    console.print(f"menu        {options.output} ({len(chains)} chains)", soft_wrap=True)
    tasks = ("--tasks", "arc_easy:test", "sciq:validation")
    next_command(["python -m cola_learn.label", "--config", "menu", "--search.file", options.output, *tasks])
    return chains


def _composed(
    stores: Sequence[LabelStore], labels: Sequence[Sequence[Label]], best: Sequence[Edit], options: MenuOptions
) -> dict[Chain, Array]:
    """Compositions of the best edits, or of the best ones of each cluster of questions."""
    manifest = stores[0].manifest
    pools = [questions_of(store) for store in stores]
    scorings = {one: store.manifest.scoring for store, pool in zip(stores, pools, strict=True) for one in pool}
    backbone = manifest.load_backbone(f"--labels {stores[0].folder}", None, options.device, manifest.model.dtype)
    judge = cache(partial(make_judge, backbone))
    template, num_layers = manifest.scoring.template, manifest.model.num_layers
    if options.clusters == 1:
        groups = [(best, [one for pool in pools for one in pool[: options.compose_questions]])]
    else:
        questions = list(scorings)
        own = clusters_of(backbone, questions, template, options.clusters)
        gained = {label.key: edit_gains([label]) for some in labels for label in some}
        groups = []
        for cluster in range(int(own.max()) + 1):
            members = [questions[row] for row in numpy.flatnonzero(own == cluster)]
            gains = {edit: numpy.mean([gained[one.key].get(edit, (0.0, 0))[0] for one in members]) for edit in best}
            chosen = random.Random(cluster).sample(members, min(options.compose_questions, len(members)))
            groups.append((sorted(best, key=lambda edit: -gains[edit]), chosen))
            kinds = Counter(one.task for one in members).most_common(3)
            console.print(f"cluster {cluster + 1}: {len(members)} questions, most of {', '.join(k for k, _ in kinds)}")
    found: dict[Chain, Array] = {}
    for edits, questions in groups:
        skips = [edit for edit in edits if isinstance(edit, Skip)]
        series = dict.fromkeys(tuple(some[: options.compose_edits]) for some in (edits, skips))
        found |= compose(
            lambda one: judge(scorings[one]), questions, list(series), options.compose, num_layers, template
        )
    return found


def pooled_gains(stores: Sequence[Sequence[Label]], scaled: bool = True) -> dict[Edit, tuple[float, int]]:
    """For every single edit its mean gain over the base chain, and on how many questions, from the labels of each
    store. Margins of options are in different units under different metrics: ``scaled`` gains are relative to the
    spread of the base chain's margins in a store."""
    parts: defaultdict[Edit, list[tuple[float, int]]] = defaultdict(list)
    for labels in filter(None, stores):
        spread = (float(numpy.std([label.base.margin for label in labels])) or 1.0) if scaled else 1.0
        for edit, (gain, count) in edit_gains(labels).items():
            parts[edit].append((gain / spread, count))
    counts = {edit: sum(count for _, count in own) for edit, own in parts.items()}
    return {
        edit: (sum(gain * count for gain, count in own) / counts[edit], counts[edit]) for edit, own in parts.items()
    }


def _shrunk(gain: float, count: int) -> float:
    """A mean over few questions is drawn towards zero, as if ten more had gained nothing."""
    return gain * count / (count + 10)


def covering(labels: Sequence[Label], size: int) -> list[Chain]:
    """Chains that together are good for most questions: again and again the one that is good for most of those that
    have none yet, of equals the shallower; when all have one, from the beginning."""
    good: defaultdict[Chain, set[str]] = defaultdict(set)
    for label in labels:
        for trial in label.good:
            good[trial.chain].add(label.key)
    chosen: list[Chain] = []
    left: set[str] = set()
    while good and len(chosen) < size:
        if not left:
            left = set().union(*good.values())
        counts = Counter({chain: len(keys & left) for chain, keys in good.items()})
        most = max(counts.values())
        chain = min((c for c, count in counts.items() if count == most), key=lambda c: (c.depth, c.layers))
        chosen.append(chain)
        left -= good.pop(chain)
        if most == 0:
            left = set()
    return chosen


def compose(
    judge_of: Callable[[Question], Judge],
    questions: Iterable[Question],
    series: Sequence[Sequence[Edit]],
    steps: int,
    num_layers: int,
    template: Template = "cloze",
) -> dict[Chain, Array]:
    """Chains of more and more edits: in each series, at each step, that one of its edits is added which gives the
    highest mean soft reward.

    Returns:
        Each chain with its gains in soft reward over the base chain, in nats, ``[Q]``.
    """
    judged = by_judge(judge_of, questions)
    ordered = [question for _, some in judged for question in some]
    base = Chain.base(num_layers)
    made: dict[Chain, Array] = {}
    found: list[dict[Chain, Scores]] = [{} for _ in ordered]  # what one step scored, another need not
    with progress_bar() as bar:
        total = steps * len(ordered) * sum(map(len, series))
        task = bar.add_task("compose", total=total, unit="chains", note="")
        for edits in series:
            chosen: tuple[Edit, ...] = ()
            for _ in range(steps):
                chains = {}
                for edit in edits:
                    try:
                        chains[Chain.from_edits([*chosen, edit], num_layers)] = (*chosen, edit)
                    except ValueError:  # it overlaps an edit that is chosen already
                        continue
                if not chains:
                    break
                missing = [chain for chain in (base, *chains) if chain not in found[0]]
                if missing:  # else no question need be opened
                    scored = (one for judge, some in judged for one in score_questions(judge, some, missing, template))
                    for known, (_, scores) in zip(found, scored, strict=True):
                        known |= scores
                        bar.advance(task, len(chains))
                soft = soft_rewards(ordered, found)
                best = max(chains, key=lambda chain: float(soft[chain].mean()))
                chosen = chains[best]
                made[best] = soft[best] - soft[base]
        bar.update(task, completed=total)
    return made


def _show(composed: Mapping[Chain, Array]) -> None:
    """Print the gains: the best of many on few questions look better than they are."""
    console.print(
        "gain in the log-probability of the right option, or of a response a token, in nats (standard error); of many "
        "chains the best were taken, so that others will show less, the more so the larger the error"
    )
    for chain, gains in composed.items():
        error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else math.nan
        console.print(f"  {gains.mean():+.3f} ({error:.3f})  {chain.depth} layers  {chain}")
