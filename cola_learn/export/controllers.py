"""Exporting a trained controller or a static chain to a folder, with a model card."""

import contextlib
from dataclasses import replace
from pathlib import Path

import yaml
from transformers import GenerationConfig

from cola_learn.backbone.load import base_of, load_tokenizer, locate
from cola_learn.command import settings_of
from cola_learn.console import console, next_command
from cola_learn.errors import UserError, first_line
from cola_learn.export.export_options import ExportOptions
from cola_learn.export.result_cards import measured_card, read_report
from cola_learn.tracking import Tracker
from cola_learn.train.controller import Controller
from cola_learn.train.controller_card import write_controller
from cola_learn.train.hub import checkpoint_artifact, controller_artifact
from cola_learn.train.next_stage import evaluate_command, hold_out, infer_command


def run_export(options: ExportOptions) -> None:
    """Write the controller of a training checkpoint to a folder that ``Controller.from_pretrained`` loads, or a static
    chain to one that transformers loads.

    Raises:
        UserError: if the checkpoint cannot be read or was trained without a depth price, the chain is not for the
            backbone, or the folder cannot be written.
    """
    if options.checkpoint is None:
        from cola_learn.export.gguf import check_gguf, save_gguf
        from cola_learn.export.static import StaticChain, found_static, save_static

        if options.gguf is not None:
            check_gguf(options.gguf)
        static = (
            found_static(options.static, options.max_depth, options.device)
            if options.static is not None
            else StaticChain(options.chain or "", "embedded")
        )
        chain = save_static(options.backbone or static.backbone, static, options.output, options.dtype)
        console.print(f"checkpoint  {options.output} ({chain.depth} of {chain.num_layers} layers)", soft_wrap=True)
        if options.gguf is not None:
            save_gguf(options.output, options.gguf)
            console.print(f"gguf        {options.gguf}", soft_wrap=True)
        return
    controller = _trained(options.checkpoint)
    if options.price is not None:
        controller.rule.check_price(options.price, options.checkpoint)
        controller.rule = replace(controller.rule, price=options.price)
    card = None
    if options.report is not None:
        card = measured_card(controller, options.output, read_report(options.report, "--report"))
    write_controller(controller, options.output, card)
    _write_words(controller.config.backbone, options.output)
    if options.checkpoint.is_file():
        folder = options.checkpoint.parent
        with Tracker("export", options.tracking, folder, settings_of(options), options.wandb) as tracker:
            tracker.input(checkpoint_artifact(options.checkpoint, controller.config))
            tracker.output(controller_artifact(options.output))
    console.print(f"controller  {options.output}", soft_wrap=True)
    labels = _labels_of(options.checkpoint)
    evaluate = evaluate_command(options.output, labels)
    next_command(*([evaluate] if evaluate else []), infer_command(options.output, controller.config.kind))
    if labels and not evaluate:
        console.print(hold_out(options.output, labels), soft_wrap=True)


def _write_words(backbone: str, folder: Path) -> None:
    """The backbone's tokenizer and generation config beside its controller, for transformers' Auto classes."""
    try:
        tokenizer, model = load_tokenizer(backbone), locate(base_of(backbone))[0]
    except UserError as error:
        console.print(f"no tokenizer is written beside the controller: {error}", soft_wrap=True)
        return
    tokenizer.save_pretrained(folder)
    with contextlib.suppress(OSError):  # many models have none
        GenerationConfig.from_pretrained(model).save_pretrained(folder)


def _trained(checkpoint: Path) -> Controller:
    """The controller of a training checkpoint, or one that was exported before."""
    from cola_learn.train.checkpoints import check_checkpoint
    from cola_learn.train.module import ControllerModule

    if checkpoint.is_dir():
        return Controller.from_pretrained(checkpoint)
    try:
        check_checkpoint(checkpoint)
        module = ControllerModule.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"--checkpoint {checkpoint} cannot be read ({first_line(error)}); "
            "give one that python -m cola_learn.train wrote"
        ) from None
    assert module.controller is not None
    return module.controller


def _labels_of(checkpoint: Path) -> Path | None:
    """The label store that a checkpoint was trained on, if its folder says."""
    try:
        return Path(yaml.safe_load((checkpoint.parent / "config.yaml").read_text())["labels"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
