"""Exporting a trained controller: a folder with its configuration, its weights and a model card."""

import json
from dataclasses import replace
from pathlib import Path

import yaml

from cola_learn.console import console, next_command
from cola_learn.errors import UserError, first_line
from cola_learn.files import write_text
from cola_learn.infer.options import ExportOptions
from cola_learn.train.config import ControllerConfig
from cola_learn.train.controller import Controller
from cola_learn.train.objectives import OBJECTIVES

_CARD = """---
library_name: cola-learn
tags: [chain-of-layers, dynamic-depth]
base_model: {base_model}
---
# Chain-of-layers controller for {backbone}

A small network ({parameters:.2f} M parameters) that reads a prompt's hidden states in the frozen model
`{backbone}` ({num_layers} layers, fingerprint `{fingerprint}`) and writes the chain of layers to run for it: which
layers to skip and which to repeat. No weight of the model changes.

| | |
|---|---|
| reads | {reads} |
| writes | {writes} |
| training | {training} |
| price of depth | {price} |

```python
from cola_learn import ColaForCausalLM

model = ColaForCausalLM.from_pretrained("{folder}")
print(model.write("Question: What do plants need to grow?\\nAnswer:"))
```

What it gains or loses on held-out questions is measured with `python -m cola_learn.evaluate {evaluate}
{folder}`; a controller without such a report should not be trusted to help. Files: `config.json`,
`model.safetensors`; nothing in them is executed.
"""


def run_export(options: ExportOptions) -> None:
    """Write the controller of a training checkpoint to a folder that ``Controller.from_pretrained`` loads, or a static
    chain to one that transformers loads.

    Raises:
        UserError: if the checkpoint cannot be read or was trained without a depth price, the chain is not for the
            backbone, or the folder cannot be written.
    """
    if options.checkpoint is None:
        from cola_learn.infer.static import StaticChain, found_static, save_static

        static = (
            found_static(options.static, options.max_depth, options.device)
            if options.static is not None
            else StaticChain(options.chain or "", "embedded")
        )
        chain = save_static(options.backbone or static.backbone, static, options.output, options.dtype)
        console.print(f"checkpoint  {options.output} ({chain.depth} of {chain.num_layers} layers)", soft_wrap=True)
        return
    from cola_learn.train.checkpoints import check_checkpoint
    from cola_learn.train.module import ControllerModule

    try:
        check_checkpoint(options.checkpoint)
        module = ControllerModule.load_from_checkpoint(options.checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = first_line(error)
        raise UserError(
            f"--checkpoint {options.checkpoint} cannot be read ({reason}); "
            "give one that python -m cola_learn.train wrote"
        ) from None
    controller = module.controller
    assert controller is not None
    if options.price is not None:
        controller.rule.check_price(options.price, options.checkpoint)
        controller.rule = replace(controller.rule, price=options.price)
    write_controller(controller, options.output)
    console.print(f"controller  {options.output}", soft_wrap=True)
    labels = _labels_of(options.checkpoint)
    evaluate = ["python -m cola_learn.evaluate menu", "--controllers", options.output]
    if not controller.menu:
        evaluate = ["python -m cola_learn.evaluate", "--controller", options.output]
        evaluate += ["--labels", labels] if labels else []
    question = "What do plants need to grow?"
    next_command(evaluate, ["python -m cola_learn.infer", "--controller", options.output, question])


def _labels_of(checkpoint: Path) -> str | None:
    """The label store that a checkpoint was trained on, if its folder says."""
    try:
        return str(yaml.safe_load((checkpoint.parent / "config.yaml").read_text())["labels"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def write_controller(controller: Controller, folder: Path) -> None:
    """Write configuration, weights and model card.

    Raises:
        UserError: if the folder cannot be written.
    """
    config, rule = controller.config, controller.rule
    known = OBJECTIVES.get(config.objective or "imitation")
    controller.save_pretrained(folder)
    card = _CARD.format(
        backbone=config.backbone,
        base_model=json.dumps(config.backbone),  # which is YAML too
        parameters=sum(weight.numel() for weight in controller.parameters()) / 1e6,
        num_layers=config.num_layers,
        fingerprint=config.fingerprint,
        reads=_reads(config),
        writes=_writes(config),
        training=known.about if known else f"`{config.objective}`",
        price=f"{rule.price:.3g} unless another is given" if rule.priced else "none: it was trained without",
        evaluate="menu --controllers" if config.menu else "--controller",
        folder=folder,
    )
    write_text(folder / "README.md", card)


def _reads(config: ControllerConfig) -> str:
    places = ["the embedding layer" if layer == 0 else f"layer {layer}" for layer in config.feature_layers]
    states = f"hidden states of the prompt after {', '.join(places)}"
    return states if config.pooling == "attend" else f"{config.components} principal components of the mean of {states}"


def _writes(config: ControllerConfig) -> str:
    if config.menu:
        return "one of " + ", ".join(f"`{chain}`" for chain in config.menu)
    space = config.space
    return (
        f"up to {space.max_block} layers an edit, at most {space.max_extra} extra runs of a block, "
        f"operations: {space.operations}"
    )
