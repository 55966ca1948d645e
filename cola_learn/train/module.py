"""Training the controller by weighted imitation of the chains that the search found good."""

from dataclasses import asdict
from typing import Any

import lightning
import torch
from torch import Tensor

from cola_learn.train.controller import Controller, ControllerConfig
from cola_learn.train.data import Batch


class ControllerModule(lightning.LightningModule):
    """A controller with its loss and optimiser.

    Args:
        width: of the controller's decoder.
        blocks: of the decoder.
        heads: of its attention.
        dropout: while training.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warm_up_steps: over which the learning rate rises.
        shape: the full :class:`ControllerConfig` as a dict; the command fills it in from the labels.
    """

    def __init__(
        self,
        width: int = 128,
        blocks: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warm_up_steps: int = 20,
        shape: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.controller = Controller(ControllerConfig.from_dict(shape)) if shape else None

    def configure_model(self) -> None:
        if self.controller is None:
            self.hparams["shape"] = self._shape_from_labels()
            self.controller = Controller(ControllerConfig.from_dict(self.hparams["shape"]))

    def examples(self, limit: int = 50) -> list[tuple[int, str, str]]:
        """Validation prompts: number of good chains, the most weighted one, and the chain written now."""
        assert self.controller is not None
        rows = []
        for example in self.trainer.datamodule.validation[:limit]:  # type: ignore[attr-defined]
            best = example.sequences[max(range(len(example.weights)), key=example.weights.__getitem__)]
            written = self.controller.choose(example.features)
            rows.append((len(example.sequences), str(self.controller.vocabulary.decode(list(best))), str(written)))
        return rows

    def _shape_from_labels(self) -> dict[str, Any]:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        size = {name: self.hparams[name] for name in ("width", "blocks", "heads", "dropout")}
        labels = {name: getattr(data, name) for name in ("num_layers", "hidden_size", "feature_layers", "fingerprint")}
        return asdict(ControllerConfig(space=data.space, backbone=data.backbone_name, **labels, **size))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = self._loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.features))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        assert self.controller is not None
        size = len(batch.features)
        self.log("val/loss", self._loss(batch), prog_bar=True, batch_size=size)
        chains = [
            self.controller.choose(features[~padding])
            for features, padding in zip(batch.features, batch.padding, strict=True)
        ]
        self.log("val/depth", sum(chain.depth for chain in chains) / size, prog_bar=True, batch_size=size)
        self.log("val/base_share", sum(chain.is_base for chain in chains) / size, batch_size=size)
        self.log("val/distinct_chains", float(len(set(chains))), batch_size=size)

    def _loss(self, batch: Batch) -> Tensor:
        """Mean over prompts of the weighted negative log-likelihood of their good chains, in nats."""
        assert self.controller is not None
        memory = self.controller.encode(batch.features)[batch.owners]
        log_probabilities = self.controller(memory, batch.padding[batch.owners], batch.tokens[:, :-1])
        targets = batch.tokens[:, 1:]
        chosen = log_probabilities.gather(2, targets[:, :, None])[:, :, 0]
        real = torch.arange(targets.shape[1], device=targets.device) < batch.lengths[:, None]
        likelihood = torch.where(real, chosen, 0.0).sum(1)
        return -(batch.weights * likelihood).sum() / len(batch.features)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), self.hparams["learning_rate"], weight_decay=self.hparams["weight_decay"]
        )
        warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=self.hparams["warm_up_steps"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warm_up, "interval": "step"}}
