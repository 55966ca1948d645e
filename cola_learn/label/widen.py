"""Joining stores of the same questions and different menus: every question gets the chains of all."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cola_learn.chains import Chain
from cola_learn.console import console, next_command
from cola_learn.errors import UserError
from cola_learn.files import writable_folder, write_text
from cola_learn.label.manifest import content_of
from cola_learn.label.options import WidenOptions
from cola_learn.label.records import Label, Trial, menu_of
from cola_learn.label.store import LabelStore

_SAME = 1e-3  # nats by which the scores of the base chain may differ between machines
_TOGETHER = 500  # labels written in one go


def run_widen(options: WidenOptions) -> list[LabelStore]:
    """Join the stores, or those of the same name in several folders, and write the menu of all beside them.

    Raises:
        UserError: if they are of other questions, models or scorings.
    """
    folders = [_stores(folder) for folder in options.stores]
    first = folders[0]
    for named, own in zip(options.stores[1:], folders[1:], strict=True):
        if own.keys() != first.keys():
            name = min(own.keys() ^ first.keys())
            raise UserError(f"{options.stores[0]} and {named} hold other stores: {name} is in one of them only")
    menu = dict.fromkeys(chain for own in folders for store in own.values() for chain in _menu(store))
    writable_folder(options.output)
    file = options.output / "menu.txt"
    write_text(file, "".join(f"{chain}\n" for chain in menu))
    made = [_widened([own[name] for own in folders], tuple(menu), options.output / name, file) for name in first]
    console.print(f"labels      {options.output} ({len(menu)} chains, {file.name} lists them)", soft_wrap=True)
    next_command(["python -m cola_learn.train --config configs/train/menu.yaml", "--labels", options.output])
    return made


def _stores(folder: Path) -> dict[str, LabelStore]:
    inner = sorted(file.parent for file in folder.glob("*/manifest.json"))
    return {one.name: LabelStore.open(one, "store") for one in inner} or {"": LabelStore.open(folder, "store")}


def _menu(store: LabelStore) -> tuple[Chain, ...]:
    """The chains that were run on every question of a store.

    Raises:
        UserError: if they are not the same for all.
    """
    menu = menu_of(store)
    if not menu or not store.manifest.scores:
        raise UserError(
            f"{store.folder} holds no menu that all questions were run through; label cross makes such stores"
        )
    return menu


def _widened(stores: Sequence[LabelStore], menu: tuple[Chain, ...], folder: Path, file: Path) -> LabelStore:
    first = stores[0]
    for store in stores[1:]:
        mine, theirs = (replace(one.manifest, search={}) for one in (first, store))
        if different := mine.difference(theirs):
            name, one, other = different
            raise UserError(f"{first.folder} and {store.folder} cannot be joined: {name} is {one} and {other}")
        if store.keys() != first.keys():
            key = min(store.keys() ^ first.keys())
            raise UserError(f"{first.folder} and {store.folder} are of other questions: {key} is in one of them only")
    search = {"method": "Menu", "simulations": len(menu), "file": content_of(file)}
    made = LabelStore.create(folder, replace(first.manifest, search=search))
    others = [{label.key: label for label in store} for store in stores[1:]]
    with made.writing():
        known, waiting, order = made.keys(), [], []
        for label in first:
            order.append(label.key)
            if label.key not in known:
                waiting.append(_joined([label, *(own[label.key] for own in others)], menu, stores))
            if len(waiting) == _TOGETHER:
                made.append(waiting)
                waiting = []
        made.append(waiting)
        made.compact(order)
    return made


def _joined(labels: Sequence[Label], menu: Sequence[Chain], stores: Sequence[LabelStore]) -> Label:
    found: dict[Chain, Trial] = {}
    digest = next((label.digest for label in labels if label.digest), "")
    for label, store in zip(labels, stores, strict=True):
        if label.digest not in ("", digest):  # older labels have none; the scores below tell their question too
            raise UserError(f"{stores[0].folder} and {store.folder} hold another question named {label.key}")
        pairs = zip(label.base.scores, labels[0].base.scores, strict=True)
        if (apart := max(abs(one - other) for one, other in pairs)) > _SAME:
            raise UserError(
                f"{stores[0].folder} and {store.folder}: the plain model scores {label.key} {apart:.2g} nats apart, so "
                "they were not made alike"
            )
        found |= {trial.chain: trial for trial in label.trials if trial.chain not in found}
    if missing := [chain for chain in menu if chain not in found]:
        raise UserError(f"question {labels[0].key} was not run through {missing[0]}")
    trials = tuple(replace(found[chain], simulation=place) for place, chain in enumerate(menu, start=1))
    return replace(labels[0], trials=trials, digest=digest)
