"""What an evaluation compares on what: opened, and checked to belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.load import fingerprint_of
from cola_learn.errors import UserError
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.held_out import HeldOut, held_out
from cola_learn.evaluate.learners import Learner
from cola_learn.evaluate.policies import Policy, policy_named
from cola_learn.evaluate.report import EXPLAINED
from cola_learn.files import digest, sha256
from cola_learn.label.manifest import settings_by_content
from cola_learn.label.score_matrix import open_stores
from cola_learn.label.store import LabelStore
from cola_learn.rewards.reward import use_reward
from cola_learn.train.controller import Controller
from cola_learn.train.hub import controller_files, fetch_controller


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is compared on what.

    Attributes:
        options: of the evaluation.
        stores: labels, of training questions.
        others: with ``--held`` the stores of held-out questions; else empty.
        held: without, the questions to run.
        controllers, policies: those compared; controllers by name.
    """

    options: EvaluateOptions
    stores: Sequence[LabelStore]
    others: Sequence[LabelStore]
    held: HeldOut | None
    controllers: Mapping[str, Controller]
    policies: Sequence[Policy | Learner]

    @property
    def backbone_name(self) -> str:
        return self.options.backbone or self.stores[0].manifest.model.name

    def load_backbone(self) -> Backbone:
        """The frozen model, checked to be the one that the labels and the controllers are of."""
        options, manifest = self.options, self.stores[0].manifest
        dtype = options.dtype or manifest.model.dtype
        return manifest.load_backbone(f"--labels {options.labels}", options.backbone, options.device, dtype)

    def identity(self) -> str:
        """Changes with everything that the numbers depend on."""
        options = self.options
        without = ("tracking", "wandb", "output", "trees", "workers", "executor", "ray_address", "cache_gib")
        settings = {key: value for key, value in asdict(options).items() if key not in without}
        settings["search"] = [options.search.name, settings_by_content(options.search)]
        settings["policies"] = {path: _source_digest(path) for path in options.policies}
        settings["fingerprint"] = fingerprint_of(self.backbone_name)
        questions = self.held.questions if self.held else ()
        settings["questions"] = {question.key: question.digest for question in questions}
        controllers = [file for folder in options.controllers for file in controller_files(fetch_controller(folder))]
        searched = open_stores(options.searched, "--searched") if options.searched else []
        stores = (*self.stores, *self.others, *searched)
        return digest(settings, *controllers, *(file for store in stores for file in store.files()))


def open_inputs(options: EvaluateOptions) -> Inputs:
    """Everything that the options name.

    Raises:
        UserError: if any of it cannot be read, or does not belong together.
    """
    if options.reward:
        use_reward(options.reward)
    stores = open_stores(options.labels)
    others = open_stores(options.held, "--held") if options.held else []
    manifest = stores[0].manifest
    policies = [policy_named(path) for path in options.policies]
    for path, policy in zip(options.policies, policies, strict=True):
        if options.held is None and isinstance(policy, Learner):
            raise UserError(f"--policies {path} learns from the scores of a menu; give --held")
    called = _names(options.controllers)
    names = [*called, *(policy.name for policy in policies)]
    if taken := [name for name in names if name in EXPLAINED or names.count(name) > 1]:
        raise UserError(f"{taken[0]} is the name of another policy; rename the folder of --controllers, or the policy")
    controllers = {}
    for name, folder in zip(called, options.controllers, strict=True):
        controllers[name] = controller = Controller.from_pretrained(folder)
        controller.config.check_backbone(manifest.model.num_layers, manifest.model.fingerprint, manifest.model.name)
    held = None if options.held else held_out(options, stores)
    return Inputs(options, stores, others, held, controllers, policies)


def _source_digest(path: str) -> str:
    """SHA-256 of the file that what a dotted path names is written in; "" if it is in none."""
    file = getattr(import_module(path.rpartition(".")[0]), "__file__", None)
    return sha256(Path(file)) if file else ""


def _names(folders: Sequence[Path]) -> list[str]:
    """What controllers are called: the only one just that, several by their folders."""
    if len(folders) == 1:
        return ["controller"]
    names = [folder.parent.name if folder.name == "controller" else folder.name for folder in folders]
    return [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
