"""Model cards: metadata for the Hugging Face hub, and measured results."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from cola_learn import assets
from cola_learn.backbone.fingerprint import of_memory
from cola_learn.chains import Chain
from cola_learn.errors import UserError, first_line
from cola_learn.evaluate.markdown import policy_table
from cola_learn.evaluate.report import Report
from cola_learn.files import read_json
from cola_learn.tasks.registry import BENCHMARKS
from cola_learn.train.config import ControllerConfig
from cola_learn.train.controller import Controller
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

{measured}

Files: `config.json`, `model.safetensors`; nothing in them is executed.
"""
_UNMEASURED = (
    "What it gains or loses on held-out questions has not been measured here (`python -m cola_learn.evaluate`, then "
    "`python -m cola_learn.export --report`); a controller without a report should not be trusted to help."
)
_STATIC = """# {name} with the layers {chain}

`{name}` with some of its {num_layers} layers left out or run again: **{chain}** ({depth} layers). No weight was changed
or trained. It is an ordinary checkpoint:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForCausalLM.from_pretrained("{folder}")
```

`mergekit.yaml` makes the same with mergekit's passthrough. {measured}
"""


def read_report(source: Path, option: str) -> Report:
    """The report of an evaluation, by its file or its folder; ``option`` is what named it, for messages.

    Raises:
        UserError: if it cannot be read.
    """
    file = source / "report.json" if source.is_dir() else source
    try:
        return Report.from_json(read_json(file))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{option} {file} cannot be read ({first_line(error)}); give an evaluation's report.json"
        ) from None


def controller_card(controller: Controller, folder: Path, report: Report | None = None) -> str:
    """The card of a controller that is written to ``folder``, with the results of its evaluation.

    Raises:
        UserError: if the report is that of another controller.
    """
    config, rule = controller.config, controller.rule
    own = of_memory(controller)
    if report is not None and own not in report.controllers.values():
        others = ", ".join(report.controllers.values())
        raise UserError(
            f"--report is of controller {others}, not of this one ({own}); python -m cola_learn.evaluate makes one"
        )
    known = OBJECTIVES.get(config.objective or "imitation")
    name = _hub_id(config.backbone)
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
        measured=_UNMEASURED if report is None else _measured(report, own),
    )
    results = {} if report is None else _results(report, own, folder.name)
    return _card(name, text, library_name="cola-learn", tags=["chain-of-layers", "dynamic-depth"], **results)


def static_card(backbone: str, chain: Chain, folder: Path, measured: str) -> str:
    """The card of a checkpoint whose layers are a chain; ``measured`` says what is known of it."""
    name = _hub_id(backbone)
    text = _STATIC.format(
        name=name, chain=chain, num_layers=chain.num_layers, depth=chain.depth, folder=folder, measured=measured
    )
    tags = ["chain-of-layers", "layer-skipping", "mergekit"]
    return _card(name, text, library_name="transformers", pipeline_tag="text-generation", tags=tags)


def _card(base_model: str, text: str, **metadata: Any) -> str:
    data = ModelCardData(base_model=base_model, **metadata)
    return f"---\n{data.to_yaml()}\n---\n{text}"


def _hub_id(backbone: str) -> str:
    """The id of a backbone on the hub; what the user called it where it has none."""
    return assets.MODELS[backbone].hub if backbone in assets.MODELS else backbone


def _name_of(report: Report, digest: str) -> str:
    """What a report calls a controller."""
    return next(name for name, own in report.controllers.items() if own == digest)


def _measured(report: Report, digest: str) -> str:
    name = _name_of(report, digest)
    rows = [replace(row, collapse={}) for row in report.rows if row.policy in ("base", "static", "static_front", name)]
    about = [report.headline] if name == next(iter(report.controllers)) else []
    asked = f"On {report.n} held-out questions ({', '.join(report.tasks)}); labels: {report.setting['labels']}."
    return "\n\n".join([*about, asked, "\n".join(policy_table(report, rows)), f"`{report.setting['command']}`"])


def _results(report: Report, digest: str, name: str) -> dict[str, Any]:
    """Metadata: the benchmark, and the controller's accuracy on it; none for several benchmarks together."""
    if len(report.tasks) > 1:
        return {}
    [task] = report.tasks
    known = task in BENCHMARKS
    dataset = BENCHMARKS[task].hub.path if known else task
    result = EvalResult(
        task_type="text-generation",
        dataset_type=dataset,
        dataset_name=task,
        metric_type="accuracy",
        metric_value=round(report.by_name[_name_of(report, digest)].accuracy, 4),
    )
    return {"model_name": name, "eval_results": [result], "datasets": [dataset] if known else None}


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
