"""Labels as training data: prompt features beside the token sequences of good chains, with weights."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cola_learn.assets import cache_folder
from cola_learn.backbone import load_backbone
from cola_learn.backbone.load import Dtype
from cola_learn.chains import SearchSpace
from cola_learn.cli import UserError, console
from cola_learn.label import Label, LabelStore
from cola_learn.tasks import as_sample, load_task
from cola_learn.train.controller import pad_features
from cola_learn.train.features import feature_file, prompt_features, read_features, write_features
from cola_learn.train.vocabulary import STOP, EditVocabulary


@dataclass(frozen=True)
class Example:
    """One labelled prompt.

    Attributes:
        features: ``[T, F, H]``.
        sequences: token sequences of its good chains.
        weights: of the sequences; they add up to 1.
    """

    features: Tensor
    sequences: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]


class Batch(NamedTuple):
    """Examples joined: B prompts with C chains among them.

    Attributes:
        features: ``[B, T, F, H]``.
        padding: ``[B, T]``, True = padding.
        owners: prompt of each chain, ``[C]``.
        tokens: begin mark, edits, then stop tokens, ``[C, L + 1]``.
        lengths: edits and one stop token of each chain, ``[C]``.
        weights: of each chain; they add up to B.
    """

    features: Tensor
    padding: Tensor
    owners: Tensor
    tokens: Tensor
    lengths: Tensor
    weights: Tensor


def chain_weights(depths: Sequence[int], num_layers: int, depth_preference: float) -> list[float]:
    """Weights of one sample's good chains, adding up to 1: ``softmax(-depth_preference * depth / N)``."""
    raw = [math.exp(-depth_preference * (depth - min(depths)) / num_layers) for depth in depths]
    return [value / sum(raw) for value in raw]


def collate(examples: Sequence[Example]) -> Batch:
    features, padding = pad_features([example.features for example in examples])
    sequences = [sequence for example in examples for sequence in example.sequences]
    longest = max(map(len, sequences))
    return Batch(
        features,
        padding,
        torch.tensor([owner for owner, example in enumerate(examples) for _ in example.sequences]),
        torch.tensor([[STOP, *sequence, *[STOP] * (longest - len(sequence))] for sequence in sequences]),
        torch.tensor([len(sequence) for sequence in sequences]),
        torch.tensor([weight for example in examples for weight in example.weights]),
    )


class LabelDataModule(lightning.LightningDataModule):
    """Labels of a store, split by question into training and validation.

    Args:
        labels: folder of a label store.
        limit: train on at most this many labelled questions, drawn with the seed.
        backbone: whose hidden states are the features; default the one that the labels were made with.
        device: for computing features.
        dtype: for computing features; default that of the labels.
        feature_layers: after how many layers of the backbone the prompt is read; 0 is the embedding layer.
        depth_preference: how strongly shorter good chains are preferred: a chain that is shorter by all N
            layers weighs exp(depth_preference) times as much.
        validation_share: share of the labelled questions kept for validation.
        batch_size: prompts in a batch.
        seed: of the split.
    """

    def __init__(
        self,
        labels: Path = Path("runs/demo/labels"),
        limit: int | None = None,
        backbone: str | None = None,
        device: str = "auto",
        dtype: Dtype | None = None,
        feature_layers: tuple[int, ...] = (0, 2, 4),
        depth_preference: float = 5.0,
        validation_share: float = 0.15,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.store = LabelStore.open(labels)
        manifest = self.store.manifest
        self.num_layers = manifest.num_layers
        self.space: SearchSpace = manifest.search_space
        self.fingerprint = manifest.fingerprint
        self.backbone_name = backbone or manifest.backbone
        self.feature_layers = tuple(feature_layers)
        self._device, self._dtype = device, dtype or manifest.dtype
        self._depth_preference, self._validation_share = depth_preference, validation_share
        self._batch_size, self._seed = batch_size, seed
        if not 0 < validation_share < 1:
            raise UserError(f"--data.validation_share is {validation_share}; give a share between 0 and 1")
        if max(self.feature_layers) > self.num_layers or min(self.feature_layers) < 0:
            raise UserError(
                f"--data.feature_layers {list(self.feature_layers)}: the backbone has {self.num_layers} layers"
            )
        try:
            self._vocabulary = EditVocabulary(self.num_layers, self.space)
        except ValueError as error:
            raise UserError(f"--labels {labels}: {error}") from None
        self._labels = self._usable_labels(limit)
        self._features_at = self._feature_file()
        self.examples: list[Example] = []
        self.hidden_size = 0

    def _usable_labels(self, limit: int | None) -> list[Label]:
        labels = [label for label in self.store.read() if label.good]
        if limit is not None:
            random.Random(self._seed).shuffle(labels)
            labels = labels[:limit]
        if len(labels) < 2:
            raise UserError(
                f"--labels {self.store.folder} has {len(labels)} questions with a good chain; "
                "training needs at least 2 (label more questions)"
            )
        return labels

    def _feature_file(self) -> Path:
        manifest = self.store.manifest
        prompts = {
            question.key: as_sample(question, manifest.template).prompt
            for question in load_task(manifest.task, manifest.split)
        }
        missing = [label.key for label in self._labels if label.key not in prompts]
        if missing:
            raise UserError(f"--labels {self.store.folder}: question {missing[0]} is not in task {manifest.task}")
        self._prompts = [prompts[label.key] for label in self._labels]
        folder = cache_folder() / "features"
        return feature_file(folder, self.fingerprint, self._prompts, self.feature_layers)

    def prepare_data(self) -> None:
        """Compute the prompt features once; later runs with the same labels read them."""
        if read_features(self._features_at) is not None:
            return
        backbone = load_backbone(self.backbone_name, self._device, self._dtype)
        if backbone.fingerprint != self.fingerprint:
            raise UserError(
                f"--labels {self.store.folder} were made with backbone {self.store.manifest.backbone} "
                f"({self.fingerprint}), not {self.backbone_name} ({backbone.fingerprint})"
            )
        write_features(self._features_at, prompt_features(backbone, self._prompts, self.feature_layers))
        console.print(f"features    {self._features_at}", soft_wrap=True)

    def setup(self, stage: str) -> None:
        if self.examples:
            return
        features = read_features(self._features_at)
        assert features is not None
        self.hidden_size = features[0].shape[-1]
        self.examples = [self._example(label, tensor) for label, tensor in zip(self._labels, features, strict=True)]
        order = torch.randperm(len(self.examples), generator=torch.Generator().manual_seed(self._seed)).tolist()
        held_out = max(1, round(self._validation_share * len(order)))
        self.validation = [self.examples[index] for index in order[:held_out]]
        self.training = [self.examples[index] for index in order[held_out:]]

    def _example(self, label: Label, features: Tensor) -> Example:
        chains = [trial.chain for trial in label.good]
        weights = chain_weights([chain.depth for chain in chains], self.num_layers, self._depth_preference)
        sequences = tuple(tuple(self._vocabulary.encode(chain)) for chain in chains)
        return Example(features, sequences, tuple(weights))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.training, self._batch_size, shuffle=True, collate_fn=collate)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.validation, self._batch_size, collate_fn=collate)  # type: ignore[arg-type]
