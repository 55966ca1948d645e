"""Training the controller."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, Literal

import lightning
import numpy
import torch
from torch import Tensor

from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.files import as_value
from cola_learn.train.batches import Example, TrainingBatch
from cola_learn.train.choice import ChoiceRule, Choices, Rule, calibrate, collapse
from cola_learn.train.controller import Controller
from cola_learn.train.controller_config import ControllerConfig
from cola_learn.train.objectives import Objective, Read, objective_named

_AS_PREDICTED = Rule(1.0, (), 0.0)


class ControllerModule(lightning.LightningModule):
    """A controller with its loss and optimiser.

    Args:
        objective: what it is trained for. imitation: the likelihood of each prompt's good chains. value: predicting
            what each chain of a menu gains, and how surely; it needs labels of a menu (data.trials: all). Or the dotted
            path of an Objective of your own.
        pooling: attend to every token of the prompt, or read principal components of their mean and last
            token.
        components: how many, for the latter.
        width: hidden size of the controller's decoder.
        blocks: decoder layers.
        heads: attention heads.
        dropout: dropout rate.
        max_price: a price of depth is sampled for each prompt from 0 to this and fed to the network, so that one
            controller serves every budget; only for objectives that draw prices.
        price: default price of depth at inference: the gain in soft reward (nats) that all N layers are worth.
        error_rate: allowed false-positive rate for leaving the base chain: it runs unless the lower confidence bound of
            the gain at this rate, on validation questions, is above zero. 1 acts on any predicted gain.
        learning_rate: peak learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        warm_up_steps: linear warm-up steps; cosine decay to zero follows.
        shape: the ``ControllerConfig`` as a dict; the command fills it in from the labels.
        rule: the ``ChoiceRule`` as a dict; validation fills it in.
    """

    def __init__(
        self,
        objective: str = "imitation",
        pooling: Literal["attend", "components"] = "attend",
        components: int = 64,
        width: int = 128,
        blocks: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        max_price: float = 0.3,
        price: float = 0.0,
        error_rate: float = 1.0,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warm_up_steps: int = 20,
        shape: dict[str, Any] | None = None,
        rule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, value, fits, right in (
            ("width", width, width >= 1, "at least 1"),
            ("blocks", blocks, blocks >= 1, "at least 1"),
            ("heads", heads, heads >= 1 and width % heads == 0, f"a divisor of width {width}"),
            ("components", components, components >= 1, "at least 1"),
            ("dropout", dropout, 0 <= dropout < 1, "0 to less than 1"),
            ("max_price", max_price, 0 <= max_price < math.inf, "0 or more"),
            ("price", price, 0 <= price < math.inf, "0 or more"),
            ("error_rate", error_rate, 0 < error_rate <= 1, "more than 0 to 1"),
            ("learning_rate", learning_rate, 0 < learning_rate < math.inf, "more than 0"),
            ("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "0 or more"),
            ("warm_up_steps", warm_up_steps, warm_up_steps >= 0, "0 or more"),
        ):
            if not fits:
                raise UserError(f"--model.{name} is {value}; give {right}")
        self.save_hyperparameters()
        if shape is None:  # to be trained
            objective_named(objective)
        self.controller = self._made(shape) if shape else None

    @cached_property
    def objective(self) -> Objective:
        """What is trained for; a checkpoint that is only read need not find a user's own."""
        return objective_named(self.hparams["objective"])

    def configure_model(self) -> None:
        if self.controller is None:
            self.hparams["shape"] = self._shape_from_labels()
            torch.manual_seed(self.trainer.datamodule.seed)  # type: ignore[attr-defined]  # whatever was drawn before
            self.controller = self._made(self.hparams["shape"])
            self.hparams["rule"] = asdict(self.controller.rule)
            training: Sequence[Example] = self.trainer.datamodule.training  # type: ignore[attr-defined]
            self.controller.fit_components([example.features for example in training])

    def setup(self, stage: str) -> None:
        """Train on one thread of a CPU: sums over several are not the same twice, and one is as fast."""
        self._threads = torch.get_num_threads()
        if self.trainer.strategy.root_device.type == "cpu":
            torch.set_num_threads(1)

    def teardown(self, stage: str) -> None:
        torch.set_num_threads(self._threads)

    def _made(self, shape: dict[str, Any]) -> Controller:
        found = self.hparams["rule"]
        rule = as_value(ChoiceRule, found) if found else self._rule()
        return Controller(as_value(ControllerConfig, shape), rule)

    def _rule(self, calibrated: Rule = _AS_PREDICTED) -> ChoiceRule:
        return ChoiceRule(self.objective.decides, self.objective.priced, self.hparams["price"], *calibrated)

    def examples(self, limit: int = 50) -> list[tuple[int, str, str]]:
        """Validation prompts: number of good chains, the most weighted one, and the chain chosen now."""
        assert self.controller is not None
        rows = []
        for example in self.trainer.datamodule.validation[:limit]:  # type: ignore[attr-defined]
            best = example.sequences[max(range(len(example.weights)), key=example.weights.__getitem__)]
            written = self.controller.choose(example.features)
            good = sum(weight > 0 for weight in example.weights)
            rows.append((good, str(self.controller.vocabulary.decode(list(best))), str(written)))
        return rows

    def _shape_from_labels(self) -> dict[str, Any]:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        menu = self.menu_of(data)
        names = ("width", "blocks", "heads", "dropout", "pooling", "components", "objective")
        labels = {
            name: getattr(data, name)
            for name in ("num_layers", "hidden_size", "feature_layers", "fingerprint", "special_tokens", "kind")
        }
        config = ControllerConfig(
            space=data.space,
            backbone=data.backbone_name,
            menu=tuple(map(str, menu)),
            **labels,
            **{name: self.hparams[name] for name in names},
        )
        return asdict(config)

    def menu_of(self, data: Any) -> tuple[Chain, ...]:
        """The chains of a data module's labels to choose among.

        Raises:
            UserError: if the objective needs a menu and there is none.
        """
        menu: tuple[Chain, ...] = data.menu
        if self.objective.needs_menu and not menu:
            raise UserError(
                f"--model.objective {self.hparams['objective']} needs the same chains on every question: labels of "
                "label with --config menu, and train with --data.trials all"
            )
        return menu

    def on_train_batch_start(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Draws depend on seed, epoch and batch alone, so that a resumed training is the undisturbed one."""
        seed = self.trainer.datamodule.seed  # type: ignore[attr-defined]
        torch.manual_seed(hash((seed, self.current_epoch, batch_idx, self.global_rank)) % 2**63)

    def training_step(self, batch: TrainingBatch, index: int) -> Tensor:
        loss = self._loss(batch)
        if self.trainer.world_size > 1:  # heads that an objective leaves unused have a gradient of 0 then, not none
            loss = loss + 0.0 * sum(weight.sum() for weight in self.parameters() if weight.requires_grad)
        self._check(loss)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.features), sync_dist=True)
        return loss

    def _check(self, loss: Tensor) -> None:
        if not bool(loss.isfinite()):
            raise UserError(
                f"the loss is {float(loss)} in epoch {self.current_epoch}; try a lower --model.learning_rate or "
                "--trainer.precision 32"
            )

    def validation_step(self, batch: TrainingBatch, index: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(index)  # prices are the same in every epoch
            loss = self._loss(batch)
        self._check(loss)
        self.log("val/loss", loss, prog_bar=True, batch_size=len(batch.features), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """What the chosen chains come to on the validation questions, and whether the choice has collapsed."""
        assert self.controller is not None
        examples: Sequence[Example] = self.trainer.datamodule.validation  # type: ignore[attr-defined]
        if self.controller.menu and len(examples[0].sequences) == len(self.controller.menu):
            choices = self._choices(examples)
            self.log_dict({f"val/{name}": value for name, value in collapse(choices).items()})
            self.log("val/depth", choices.depth, prog_bar=True)
            self.log("val/gain", choices.gain, prog_bar=True)
        else:
            chains = [self.controller.choose(example.features) for example in examples]
            self.log("val/depth", sum(chain.depth for chain in chains) / len(chains), prog_bar=True)
            self.log("val/base_share", sum(chain.is_base for chain in chains) / len(chains))
            self.log("val/distinct_chains", float(len(set(chains))))

    def _choices(self, examples: Sequence[Example]) -> Choices:
        """What is chosen for examples that hold the whole menu; where values decide, they are calibrated on them."""
        assert self.controller is not None
        self.controller.rule = self._rule()
        weighed = self.controller.weigh_all([example.features for example in examples])
        gains = torch.tensor([example.gains for example in examples]).double().numpy()
        if self.objective.decides == "gain":
            every: Sequence[Example] = self.trainer.datamodule.examples  # type: ignore[attr-defined]
            means = torch.tensor([example.gains for example in every]).double().numpy().mean(0)
            found = calibrate(weighed.double().numpy(), gains, self.hparams["error_rate"], means)
            self.controller.rule = self._rule(found)
            weighed = self.controller.rule.calibrated(weighed)
        self.hparams["rule"] = asdict(self.controller.rule)
        chosen = self.controller.utilities(weighed).argmax(1).numpy()
        tasks = numpy.array([example.task for example in examples])
        return Choices(chosen, gains, numpy.array(examples[0].depths), tasks)

    def _loss(self, batch: TrainingBatch) -> Tensor:
        """The objective's loss, at prices drawn for each prompt."""
        assert self.controller is not None
        drawn = torch.rand(len(batch.features), device=batch.features.device)
        prices = self.hparams["max_price"] * drawn * self.objective.draws_prices
        memory, padding = self.controller.encode(batch.features, batch.padding, prices)
        states = self.controller.decode(memory, padding, batch.tokens[:, :, :-1])
        return self.objective.loss(self.controller, batch, Read(memory, padding, states, prices))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), self.hparams["learning_rate"], weight_decay=self.hparams["weight_decay"]
        )
        warm_up, steps = self.hparams["warm_up_steps"], self.trainer.estimated_stepping_batches

        def rate(step: int) -> float:
            """Rises, then falls to nothing: what chains gain is far less than what one batch more or less moves."""
            return min((step + 1) / max(1, warm_up), 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
