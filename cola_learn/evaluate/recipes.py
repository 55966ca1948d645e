"""A judge of layer recipes that people publish: each beside the plain model on the same questions, corrected for how
many were tried, and beside what picking the best of many random recipes of the same form would seem to gain."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import yaml
from numpy.typing import NDArray
from rich.table import Table

from cola_learn.backbone.load import depth_of
from cola_learn.chains import Chain, Repeat, Skip
from cola_learn.console import PlainConsole, console
from cola_learn.errors import UserError, first_line
from cola_learn.evaluate.evaluate_options import RecipeOptions
from cola_learn.files import writable_folder, write_text
from cola_learn.label.label_options import LabelOptions
from cola_learn.label.plan import Plan, Resources
from cola_learn.label.run import label_tasks
from cola_learn.label.store import LabelStore
from cola_learn.search.listed import read_menu
from cola_learn.search.methods import Menu
from cola_learn.stats import Interval, detectable, holm, p_value, paired_difference, points

Array = NDArray[numpy.float64]
_SURE = 0.05
_HALVES = 200  # ways to deal the questions into two halves
_DRAWS = 1000
KINDS = {"choices": "right answers to choices", "open": "right answers", "response": "likelihood of texts"}


@dataclass(frozen=True)
class Verdict:
    """What a recipe makes of the questions of one kind.

    Attributes:
        difference: of its mean reward to the plain model's.
        p: corrected for all recipes and kinds of questions.
    """

    difference: Interval
    p: float

    @property
    def better(self) -> bool:
        return self.difference.mean > 0 and self.p < _SURE

    @property
    def worse(self) -> bool:
        return self.difference.mean < 0 and self.p < _SURE


@dataclass(frozen=True)
class Picked:
    """The best of some recipes on one half of the questions: its gain there, and on the other half, in the mean over
    many ways to halve them."""

    seeming: float
    real: float
    count: int


def run_recipes(options: RecipeOptions) -> dict[str, dict[str, Verdict]]:
    """Run recipes and random ones of the same form, print a verdict and a table, and write them.

    Returns:
        For each recipe, as text, its verdict on each kind of questions.

    Raises:
        UserError: for a recipe that cannot be read, or tasks that cannot be loaded.
    """
    depth = depth_of(options.backbone)
    recipes = list(dict.fromkeys(chain for given in options.recipes for chain in read_recipes(given, depth)))
    if base := [chain for chain in recipes if chain.is_base]:
        raise UserError(f"recipe {base[0]} is the plain model; give chains that skip or repeat layers")
    count = max(options.controls, len(recipes))
    controls = random_recipes(recipes, count, random.Random(options.seed))
    folder = writable_folder(options.output)
    chains = [Chain.base(depth), *recipes, *controls]
    write_text(folder / "menu.txt", "".join(f"{chain}\n" for chain in chains))
    rewards = rewards_of(_labelled(options, folder / "menu.txt"), chains)
    verdicts = judged(rewards, recipes, options.seed)
    drawn = slice(1 + len(recipes), None)
    picked = {kind: pick(own[:, drawn] - own[:, :1], options.seed) for kind, own in rewards.items()}
    said, (heads, *rows) = sentences(verdicts, picked), _table(verdicts, rewards)
    marks = ["---"] * len(heads)
    table = ["| " + " | ".join(row) + " |" for row in (heads, marks, *rows)]
    write_text(folder / "report.md", "\n".join([*said, "", *table]) + "\n")
    out, shown = PlainConsole(), Table(box=None)
    for number, head in enumerate(heads):
        shown.add_column(head, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*row)
    for line in said:
        out.print(line, style="bold", soft_wrap=True)
    out.print("\n", shown)
    console.print(f"report      {folder / 'report.md'}", soft_wrap=True)
    return verdicts


def _labelled(options: RecipeOptions, menu: Path) -> list[LabelStore]:
    plan = Plan(search=Menu(menu), luck=False, neighbours=0, keep_scores=True, seed=options.seed)
    resources = Resources(options.device, options.dtype, workers=options.workers, verify="off")
    shared = LabelOptions(plan=plan, resources=resources, limit=options.limit, tracking="disabled")
    asked = replace(shared, tasks=options.tasks, output=menu.parent / "scores", backbone=options.backbone)
    return label_tasks(asked)[0]


def read_recipes(given: str, num_layers: int) -> list[Chain]:
    """The chains of a recipe: its text, a file of texts, or a mergekit YAML.

    Raises:
        UserError: naming what is no chain of so many layers.
    """
    path = Path(given)
    if path.suffix in (".yaml", ".yml"):
        try:
            return [of_mergekit(path.read_text(encoding="utf-8"), num_layers, given)]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"recipes {given} cannot be read ({first_line(error)})") from None
    if path.suffix or path.exists():
        return list(read_menu(path, num_layers))
    try:
        return [Chain.parse(given, num_layers)]
    except ValueError as error:
        raise UserError(f"recipe {given}: {error}") from None


def of_mergekit(content: str, num_layers: int, name: str) -> Chain:
    """The chain of a passthrough merge: its slices, one after another, all of one model.

    Raises:
        UserError: if it is anything else.
    """
    try:
        merge = yaml.safe_load(content)
        sources = [source for part in merge["slices"] for source in part["sources"]]
        ranges = [(int(low), int(high)) for low, high in (source["layer_range"] for source in sources)]
        models = {str(source["model"]) for source in sources}
        plain = merge["merge_method"] == "passthrough" and all(len(part["sources"]) == 1 for part in merge["slices"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"recipe {name} is no mergekit merge with slices ({first_line(error)})") from None
    if not plain or len(models) != 1 or any("parameters" in source for source in sources):
        raise UserError(f"recipe {name} is no passthrough of the layers of one model; nothing else is a chain")
    try:
        return Chain(tuple(layer for low, high in ranges for layer in range(low, high)), num_layers)
    except ValueError as error:
        raise UserError(f"recipe {name}: {error}") from None


def random_recipes(recipes: Sequence[Chain], count: int, chance: random.Random) -> list[Chain]:
    """Chains with the edits of recipes, taken in turn, at other places; as many as there are, up to a count. Recipes
    that are no skips and repeats of blocks have none."""
    forms = []
    for recipe in recipes:
        try:
            forms.append(recipe.edits())
        except ValueError:
            console.print(f"recipe {recipe} is no set of skips and repeats: nothing random is like it", soft_wrap=True)
    found: dict[Chain, None] = {}
    for draw in range(_DRAWS if forms else 0):
        edits, layers = forms[draw % len(forms)], recipes[0].num_layers
        moved: list[Skip | Repeat] = []
        for edit in edits:
            start = chance.randrange(layers - edit.length + 1)
            moved.append(Skip(start, edit.length) if isinstance(edit, Skip) else Repeat(start, edit.length, edit.times))
        try:
            chain = Chain.from_edits(moved, layers)
        except ValueError:  # two share a layer, or nothing is left
            continue
        if chain not in recipes and len(chain.layers) > 0:
            found[chain] = None
        if len(found) == count:
            break
    return list(found)


def rewards_of(stores: Sequence[LabelStore], chains: Sequence[Chain]) -> dict[str, Array]:
    """Rewards of the chains on the questions of each kind, ``[Q, C]``."""
    rows: dict[str, list[list[float]]] = {}
    for store in stores:
        questions = store.questions()
        for label in store:
            own = {trial.chain: trial.reward for trial in label.trials}
            rows.setdefault(questions[label.key].kind, []).append([own[chain] for chain in chains])
    return {kind: numpy.array(found) for kind, found in rows.items()}


def judged(rewards: dict[str, Array], recipes: Sequence[Chain], seed: int) -> dict[str, dict[str, Verdict]]:
    """The verdict on each recipe, given rewards of the plain model, then of the recipes, ``[Q, C]`` for each kind."""
    raw = {
        f"{recipe}/{kind}": p_value(own[:, place], own[:, 0])
        for place, recipe in enumerate(recipes, start=1)
        for kind, own in rewards.items()
    }
    corrected = holm(raw)
    return {
        str(recipe): {
            kind: Verdict(paired_difference(own[:, place], own[:, 0], seed), corrected[f"{recipe}/{kind}"])
            for kind, own in rewards.items()
        }
        for place, recipe in enumerate(recipes, start=1)
    }


def pick(gains: Array, seed: int) -> Picked | None:
    """What picking the best of C chains by their gains ``[Q, C]`` on half of the questions seems to bring, and what it
    brings on the other half; None where there are no two to pick from."""
    if gains.shape[1] < 2 or len(gains) < 2:
        return None
    chance = numpy.random.default_rng(seed)
    found = []
    for _ in range(_HALVES):
        order = chance.permutation(len(gains))
        one, other = order[: len(order) // 2], order[len(order) // 2 :]
        best = int(gains[one].mean(0).argmax())
        found.append((gains[one, best].mean(), gains[other, best].mean()))
    seeming, real = numpy.mean(found, axis=0)
    return Picked(float(seeming), float(real), gains.shape[1])


def sentences(verdicts: dict[str, dict[str, Verdict]], picked: dict[str, Picked | None]) -> list[str]:
    """The verdict on each kind of questions, in a line."""
    lines = []
    for kind, control in picked.items():
        own = {name: each[kind] for name, each in verdicts.items()}
        best = max(own, key=lambda name, own=own: own[name].difference.mean)  # type: ignore[misc]
        better = [name for name in own if own[name].better]
        which = f"{len(better)} of {len(own)} recipes are" if len(own) > 1 else f"{best} is{' not' * (not better)}"
        sure = "significantly worse, " if own[best].worse else ""
        line = (
            f"{KINDS[kind]}: {which} above the plain model ({f'best: {best}, ' * (len(own) > 1)}{sure}"
            f"{points(own[best].difference)} points, p = {own[best].p:.2g} corrected for "
            f"{len(verdicts) * len(picked)} comparisons)."
        )
        if control:
            line += (
                f" The best of {control.count} random recipes of the same form seems to gain "
                f"{100 * control.seeming:+.1f} points where it is picked, and gains {100 * control.real:+.1f} on other "
                "questions."
            )
        lines.append(line[0].upper() + line[1:])
    return lines


def _table(verdicts: dict[str, dict[str, Verdict]], rewards: dict[str, Array]) -> list[list[str]]:
    """Heads and rows: the plain model's means, then changes to them."""
    heads = ["recipe"]
    base = ["plain model"]
    for kind, own in rewards.items():
        heads += [f"{KINDS[kind]}, change in points (95% CI)", "p, corrected"]
        base += [f"{100 * own[:, 0].mean():.1f}% of {len(own)}", ""]
        if kind != "response":
            seen = 100 * detectable(float((own[:, 1] != own[:, 0]).mean()), len(own))
            base[-1] = f"(shows {seen:.1f} points)"
    found = [heads, base]
    for name, each in verdicts.items():
        pairs = ((points(each[kind].difference), f"{each[kind].p:.2g}") for kind in rewards)
        found.append([name, *(cell for pair in pairs for cell in pair)])
    return found
