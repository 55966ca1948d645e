"""The model card of a controller."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from cola_learn import assets
from cola_learn.files import write_text
from cola_learn.train.controller import Controller
from cola_learn.train.controller_config import ControllerConfig
from cola_learn.train.objectives import OBJECTIVES

_CONTROLLER = """# Chain-of-layers controller for {name}

A small network ({parameters:.2f} M parameters) that reads a prompt's hidden states in the frozen model `{name}`
({num_layers} layers, fingerprint `{fingerprint}`) and writes the chain of layers to run for it: which layers to skip
and which to repeat. No weight of the model changes.

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

After that import `AutoModelForCausalLM.from_pretrained` and `pipeline("text-generation", ...)` take this folder too.

{measured}

The controller is in `config.json` and `model.safetensors`; nothing in them is executed. The model's own weights are
not here, and its license holds for what is written with it.
"""
UNMEASURED = (
    "What it gains or loses on held-out questions has not been measured here (`python -m cola_learn.evaluate`, then "
    "`python -m cola_learn.export --report`); a controller without a report should not be trusted to help."
)


def controller_card(controller: Controller, folder: Path, measured: str = UNMEASURED, **metadata: Any) -> str:
    """The card of a controller that is written to ``folder``.

    Args:
        controller: described.
        folder: its name stands in the example.
        measured: what it gained or lost on held-out questions.
        metadata: of the hub, beside what is known of every controller.
    """
    config, rule = controller.config, controller.rule
    known = OBJECTIVES.get(config.objective or "imitation")
    name = hub_id(config.backbone)
    text = _CONTROLLER.format(
        name=name,
        parameters=sum(weight.numel() for weight in controller.parameters()) / 1e6,
        num_layers=config.num_layers,
        fingerprint=config.fingerprint,
        reads=_reads(config),
        writes=_writes(config),
        training=known.about if known else f"`{config.objective}`",
        price=f"{rule.price:.3g} unless another is given" if rule.priced else "none: it was trained without",
        folder=folder,
        measured=measured,
    )
    return card(config.backbone, text, library_name="cola-learn", tags=["chain-of-layers", "dynamic-depth"], **metadata)


def write_controller(controller: Controller, folder: Path, text: str | None = None) -> None:
    """Write configuration, weights and model card, by default one that says that nothing was measured.

    Raises:
        UserError: if the folder cannot be written.
    """
    controller.save_pretrained(folder)
    write_text(folder / "README.md", text or controller_card(controller, folder))


def card(backbone: str, text: str, **metadata: Any) -> str:
    """A card as the hub reads it: metadata, then the text."""
    known = assets.MODELS.get(backbone)
    about = {"license": known.license, "language": "en"} if known else {}
    data = ModelCardData(base_model=hub_id(backbone), pipeline_tag="text-generation", **about, **metadata)
    return f"---\n{data.to_yaml()}\n---\n{text}"


def hub_id(backbone: str) -> str:
    """The id of a backbone on the hub; what the user called it where it has none."""
    return assets.MODELS[backbone].hub if backbone in assets.MODELS else backbone


def _reads(config: ControllerConfig) -> str:
    places = ["the embedding layer" if layer == 0 else f"layer {layer}" for layer in config.feature_layers]
    states = f"hidden states of the prompt after {', '.join(places)}"
    return (
        states
        if config.pooling == "attend"
        else f"{config.components} principal components of the mean and the last of the {states}"
    )


def _writes(config: ControllerConfig) -> str:
    if config.menu:
        return "one of " + ", ".join(f"`{chain}`" for chain in config.menu)
    space = config.space
    return (
        f"up to {space.max_block} layers an edit, at most {space.max_extra} extra runs of a block, "
        f"operations: {space.operations}"
    )
