"""Model cards with measured results."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from cola_learn.backbone.fingerprint import of_memory
from cola_learn.chains import Chain
from cola_learn.errors import UserError, first_line
from cola_learn.evaluate.report import Report
from cola_learn.evaluate.tables import policy_table
from cola_learn.files import read_json
from cola_learn.tasks.registry import BENCHMARKS
from cola_learn.train.controller import Controller
from cola_learn.train.controller_card import card, controller_card, hub_id

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


def measured_card(controller: Controller, folder: Path, report: Report) -> str:
    """The card of a controller that is written to ``folder``, with the results of its evaluation.

    Raises:
        UserError: if the report is that of another controller.
    """
    own = of_memory(controller)
    if own not in report.controllers.values():
        others = ", ".join(report.controllers.values())
        raise UserError(
            f"--report is of controller {others}, not of this one ({own}); python -m cola_learn.evaluate makes one"
        )
    return controller_card(controller, folder, _measured(report, own), **_results(report, own, folder.name))


def static_card(backbone: str, chain: Chain, folder: Path, measured: str) -> str:
    """The card of a checkpoint whose layers are a chain; ``measured`` says what is known of it."""
    name = hub_id(backbone)
    text = _STATIC.format(
        name=name, chain=chain, num_layers=chain.num_layers, depth=chain.depth, folder=folder, measured=measured
    )
    tags = ["chain-of-layers", "layer-skipping", "mergekit"]
    return card(backbone, text, library_name="transformers", tags=tags)


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
    dataset = hub.path if known and (hub := BENCHMARKS[task].hub) else task
    result = EvalResult(
        task_type="text-generation",
        dataset_type=dataset,
        dataset_name=task,
        metric_type=report.measure,
        metric_value=round(report.by_name[_name_of(report, digest)].accuracy, 4),
    )
    return {"model_name": name, "eval_results": [result], "datasets": [dataset] if known else None}
