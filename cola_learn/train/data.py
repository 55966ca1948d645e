"""Labels as training data: prompt features, token sequences of chains, and their weights and gains."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from operator import attrgetter
from pathlib import Path
from typing import Literal

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.dtypes import Dtype
from cola_learn.chains import Chain, SearchSpace
from cola_learn.errors import UserError
from cola_learn.label.records import Label, Trial, menu_of
from cola_learn.label.score_matrix import apart, by_measure, open_stores, questions_of, tell_apart
from cola_learn.label.store import LabelStore
from cola_learn.rewards.scores import LEAST_MARGIN, Measure, OptionScores
from cola_learn.rewards.temperature import soft_reward, task_temperatures
from cola_learn.tasks.questions import Kind, Question
from cola_learn.train.batches import Example, collate, spreads_of
from cola_learn.train.features import features_of
from cola_learn.train.vocabulary import EditVocabulary

Trials = Literal["good", "all"]
_BATCHES_SORTED = 32


def chain_weights(depths: Sequence[int], num_layers: int, depth_preference: float) -> list[float]:
    """Weights of one sample's good chains, adding up to 1: ``softmax(-depth_preference * depth / N)``."""
    raw = [math.exp(-depth_preference * (depth - min(depths)) / num_layers) for depth in depths]
    return [value / sum(raw) for value in raw]


class LengthBatches(Sampler[list[int]]):
    """Batches of prompts of about one length, so that little is padding: drawn anew for every epoch, sorted within
    pieces of many batches, and in random order.

    What is drawn depends on the seed and the epoch alone, so that a resumed training sees the batches that it would
    have seen undisturbed.

    Args:
        lengths: of the prompts, in tokens.
        batch_size: prompts a batch.
        seed: of the draws.
        epoch: tells the epoch that begins.
        replicas, rank: of several processes, each takes every ``replicas``-th batch; the first batches are taken again
            where they do not come out even.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
        replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, epoch
        self._replicas, self._rank = replicas, rank

    def __len__(self) -> int:
        batches = -(-len(self._lengths) // self._batch_size)
        return -(-batches // self._replicas)

    def __iter__(self) -> Iterator[list[int]]:
        # A generator: Lightning asks for an iterator before it knows at which epoch it goes on, and for batches after.
        draws = torch.Generator().manual_seed(self._seed * 100_003 + self._epoch())
        order = torch.randperm(len(self._lengths), generator=draws).tolist()
        piece = _BATCHES_SORTED * self._batch_size
        batches = []
        for start in range(0, len(order), piece):
            ranked = sorted(order[start : start + piece], key=self._lengths.__getitem__)
            batches += [ranked[one : one + self._batch_size] for one in range(0, len(ranked), self._batch_size)]
        places = torch.randperm(len(batches), generator=draws).tolist()
        places += places[: len(self) * self._replicas - len(places)]
        for place in places[self._rank :: self._replicas]:
            yield batches[place]


class LabelDataModule(lightning.LightningDataModule):
    """Labels of a store, or of many tasks' stores, split by question into training and validation.

    Args:
        labels: folder of a label store, or of several, as of several tasks.
        extra_labels: labels that are trained on too, such as a search's beside those of a menu; their chains need
            not be the menu's, and none of them is validated on.
        limit: train on at most this many labelled questions, drawn with the seed.
        backbone: whose hidden states are the features; default the one that the labels were made with.
        device: for computing features.
        dtype: for computing features; default that of the labels.
        feature_layers: after how many layers of the backbone the prompt is read; 0 is the embedding layer.
        trials: what is learned from: the good chains of each question, or all that were tried.
        measure: of responses labelled with --keep_scores: likelihood, fidelity or acceptance; default that of the
            labels.
        depth_preference: how strongly shorter good chains are preferred: a chain that is shorter by all N
            layers weighs exp(depth_preference) times as much.
        validation_share: share of the labelled questions kept for validation.
        batch_size: prompts in a batch.
        seed: of the split.
    """

    def __init__(
        self,
        labels: Path = Path("runs/demo/labels"),
        extra_labels: Path | None = None,
        limit: int | None = None,
        backbone: str | None = None,
        device: str = "auto",
        dtype: Dtype | None = None,
        feature_layers: tuple[int, ...] = (0,),
        trials: Trials = "good",
        measure: Measure | None = None,
        depth_preference: float = 5.0,
        validation_share: float = 0.15,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.stores = open_stores(labels)
        self.extra_stores = open_stores(extra_labels, "--extra_labels") if extra_labels else []
        for store in self.extra_stores:
            _check_same(self.stores, store)
        if self.extra_stores:
            tell_apart([*self.stores, *self.extra_stores])
        manifest = self.stores[0].manifest
        self.num_layers = manifest.model.num_layers
        self.space: SearchSpace = manifest.plan.space
        self.fingerprint, self.special_tokens = manifest.model.fingerprint, manifest.model.special_tokens
        self.backbone_name = backbone or manifest.model.name
        self.feature_layers = tuple(feature_layers)
        self._labels_at, self._device, self._dtype = labels, device, dtype or manifest.model.dtype
        self._trials, self._depth_preference, self._validation_share = trials, depth_preference, validation_share
        self._batch_size, self.seed = batch_size, seed
        if not 0 < validation_share < 1:
            raise UserError(f"--data.validation_share is {validation_share}; give a share between 0 and 1")
        if batch_size < 1:
            raise UserError(f"--data.batch_size is {batch_size}; give at least 1")
        if not 0 <= depth_preference < math.inf:
            raise UserError(f"--data.depth_preference is {depth_preference}; give 0 or more")
        if limit is not None and limit < 2:
            raise UserError(f"--limit {limit} is too few; training needs at least 2 questions")
        if not self.feature_layers:
            raise UserError("--data.feature_layers is empty; give at least one layer, 0 for the embedding layer")
        if max(self.feature_layers) > self.num_layers or min(self.feature_layers) < 0:
            raise UserError(
                f"--data.feature_layers {list(self.feature_layers)}: the backbone has {self.num_layers} layers"
            )
        try:
            self._vocabulary = EditVocabulary(self.num_layers, self.space)
        except ValueError as error:
            raise UserError(f"--labels {labels}: {error}") from None
        stores = (*self.stores, *self.extra_stores)
        self._questions = {question.key: question for store in stores for question in questions_of(store)}
        self._labels = self._usable_labels(limit, measure)
        self._extra = self._learned(self.extra_stores, measure, "--extra_labels")
        self._features: dict[str, Tensor] = {}
        self.examples: list[Example] = []
        self.hidden_size = 0

    @property
    def kind(self) -> Kind:
        """Of the questions that are learned from."""
        return self._questions[self._labels[0].key].kind

    @property
    def menu(self) -> tuple[Chain, ...]:
        """The chains that are learned from on every question, the base chain first; none where each has its own."""
        return () if self._trials == "good" else menu_of(self._labels)

    def _learned(self, stores: Sequence[LabelStore], measure: Measure | None, named: str) -> list[Label]:
        """Those labels of stores that something is learned from."""
        every = (label for store in stores for label in by_measure(list(store), store, measure, named))
        return [label for label in every if label.good or self._trials == "all"]

    def _usable_labels(self, limit: int | None, measure: Measure | None) -> list[Label]:
        labels = self._learned(self.stores, measure, "--labels")
        if limit is not None:
            random.Random(self.seed).shuffle(labels)
            labels = labels[:limit]
        if len(labels) < 2:
            raise UserError(
                f"--labels {self._labels_at} has {len(labels)} questions with a good chain; "
                "training needs at least 2 (label more questions)"
            )
        return labels

    def prepare_data(self) -> None:
        """Compute the prompt features of all labelled questions once; later runs with the same labels read them."""
        self._features = self._read_features()

    def setup(self, stage: str) -> None:
        if self.examples:
            return
        features = self._features or self._read_features()
        self.hidden_size = features[self._labels[0].key].shape[-1]
        self._temperatures = self._fit_temperatures(self._extra) | self._fit_temperatures(self._labels)
        self.examples = [self._example(label, features[label.key]) for label in self._labels]
        order = torch.randperm(len(self.examples), generator=torch.Generator().manual_seed(self.seed)).tolist()
        held_out = max(1, round(self._validation_share * len(order)))
        self.validation = sorted((self.examples[index] for index in order[:held_out]), key=_length)
        unseen = {self._questions[self._labels[index].key].digest for index in order[:held_out]}
        size = len(self.menu)
        extra = [
            self._example(part, features[label.key])
            for label in self._extra
            if self._questions[label.key].digest not in unseen
            for part in _parts(label, size)
        ]
        training = [self.examples[index] for index in order[held_out:]]
        self.training = training + extra
        self._collate = partial(collate, spreads=spreads_of(training))

    def _fit_temperatures(self, labels: Sequence[Label]) -> dict[str, float]:
        known = [
            label
            for label in labels
            if not math.isnan(label.base.margin) and self._questions[label.key].kind != "response"
        ]
        base = [_scores(label.base, self._questions[label.key]) for label in known]
        return task_temperatures(
            [label.task for label in known], [gold for _, gold in base], [scores for scores, _ in base]
        )

    def _read_features(self) -> dict[str, Tensor]:
        """By question, ``[T, F, H]`` each."""
        backbone, manifest = lru_cache(self._load_backbone), self.stores[0].manifest
        return features_of(manifest, self._questions.values(), self.feature_layers, backbone, self._dtype)

    def _load_backbone(self) -> Backbone:
        manifest, named = self.stores[0].manifest, f"--labels {self._labels_at}"
        return manifest.load_backbone(named, self.backbone_name, self._device, self._dtype)

    def _example(self, label: Label, features: Tensor) -> Example:
        """Beside the good chains, or all of them, the base chain comes first."""
        question = self._questions[label.key]
        trials = [label.base, *label.trials[1:]] if self._trials == "all" else label.good
        good = [trial for trial in trials if trial.reward >= label.good_from]
        preferred = chain_weights([trial.chain.depth for trial in good], self.num_layers, self._depth_preference)
        weights = iter(preferred)
        temperature = self._temperatures.get(label.task, 1.0)
        base = _soft_reward(label.base, question, temperature)
        return Example(
            features,
            tuple(tuple(self._vocabulary.encode(trial.chain)) for trial in trials),
            tuple(next(weights) if trial.reward >= label.good_from else 0.0 for trial in trials),
            tuple(_soft_reward(trial, question, temperature) - base for trial in trials),
            tuple(trial.chain.depth / self.num_layers for trial in trials),
            label.task,
        )

    def train_dataloader(self) -> DataLoader:
        trainer = self.trainer
        batches = LengthBatches(
            [*map(_length, self.training)],
            self._batch_size,
            self.seed,
            lambda: trainer.current_epoch if trainer else 0,
            trainer.world_size if trainer else 1,
            trainer.global_rank if trainer else 0,
        )
        return DataLoader(self.training, batch_sampler=batches, collate_fn=self._collate)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.validation, self._batch_size, collate_fn=self._collate)  # type: ignore[arg-type]


def _check_same(stores: Sequence[LabelStore], extra: LabelStore) -> None:
    """Refuse extra labels of another model, or of a task that is scored in another way.

    Raises:
        UserError: naming what differs.
    """
    mine, theirs = stores[0].manifest, extra.manifest
    if name := apart(stores[0], extra):
        ours, other = attrgetter(name)(mine), attrgetter(name)(theirs)
        raise UserError(f"--extra_labels {extra.folder}: {name} is {other}, of --labels {ours}")
    for store in stores:
        source, scoring = store.manifest.source, store.manifest.scoring
        if (source.task, source.split) == (theirs.source.task, theirs.source.split) and scoring != theirs.scoring:
            raise UserError(
                f"--extra_labels {extra.folder}: {source.task} is scored by {theirs.scoring.metric}, in {store.folder} "
                f"by {scoring.metric}; label it with --metric {scoring.metric}"
            )


def _parts(label: Label, size: int) -> list[Label]:
    """The label in parts of at most ``size`` chains, base first in each, so that batches get no wider than the menu."""
    if not size or len(label.trials) <= size:
        return [label]
    others = label.trials[1:]
    return [
        replace(label, trials=(label.base, *others[start : start + size - 1]))
        for start in range(0, len(others), size - 1)
    ]


def _length(example: Example) -> int:
    return len(example.features)


def _scores(trial: Trial, question: Question) -> tuple[tuple[float, ...], int]:
    """Scores of the options and which is the gold one; without scores, the gold one beside the best other."""
    return (tuple(trial.scores), question.gold) if trial.scores else ((trial.margin, 0.0), 0)


def _soft_reward(trial: Trial, question: Question, temperature: float) -> float:
    """The soft reward in nats; where margins are not known, as of imported labels, the reward itself."""
    if math.isnan(trial.margin):
        return trial.reward
    if question.kind == "response":
        return max(trial.margin, LEAST_MARGIN)
    scores, gold = _scores(trial, question)
    return soft_reward(OptionScores(scores), gold, temperature)
