"""A static chain as an ordinary checkpoint, which transformers loads without cola-learn."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml

from cola_learn.backbone.apply_chain import apply_chain, chain_weights
from cola_learn.backbone.load import load_model, load_tokenizer
from cola_learn.backbone.probes import run_all
from cola_learn.backbone.recording import Batch
from cola_learn.backbone.replay import Replay
from cola_learn.backbone.rows import Row
from cola_learn.chains import Chain
from cola_learn.console import console
from cola_learn.errors import UserError, first_line
from cola_learn.evaluate.evaluate_options import EvaluateOptions
from cola_learn.evaluate.report import best_of
from cola_learn.evaluate.static_front import static_chains
from cola_learn.export.result_cards import read_report, static_card
from cola_learn.files import writable_folder, write_text
from cola_learn.label.score_matrix import open_stores
from cola_learn.rewards.judge import ModelJudge
from cola_learn.rewards.judges import make_judge
from cola_learn.train.controller_card import hub_id

_NOT_MEASURED = (
    "What this chain gains or loses was not measured here: `python -m cola_learn.evaluate` compares chains on held-out "
    "questions."
)
_PROBED, _CLOSE = 12, 1e-3  # tokens of a checkpoint's trial; how far its logits may be off
_CANDIDATES, _QUESTIONS = EvaluateOptions.static_candidates, EvaluateOptions.static_questions


@dataclass(frozen=True)
class StaticChain:
    """A chain for all inputs.

    Attributes:
        chain: as text.
        backbone: what it is for.
        measured: what is known of it, a sentence or two of Markdown.
    """

    chain: str
    backbone: str
    measured: str = _NOT_MEASURED


def found_static(source: Path, max_depth: int | None, device: str) -> StaticChain:
    """The best static chain of an evaluation's report, or of labels.

    Args:
        source: report.json, the folder that it is in, or a label store or a folder of them.
        max_depth: most layers; default no limit.
        device: where the chains of labels are compared.

    Raises:
        UserError: if it is neither.
    """
    file = source / "report.json" if source.is_dir() else source
    if file.is_file():
        return _of_report(file, max_depth)
    return _of_labels(source, max_depth, device)


def _of_report(file: Path, max_depth: int | None) -> StaticChain:
    report = read_report(file, "--static")
    setting = report.setting
    rows = [row for row in report.deployable if row.chain and row.policy.startswith("static")]
    rows = [row for row in rows if max_depth is None or row.depth <= max_depth]
    if not rows:
        raise UserError(f"--static {file} has no static chain of at most {max_depth} layers; give more --max_depth")
    best = best_of(rows)
    measured = (
        f"On {report.n} held-out questions ({setting['tasks']}) its {report.measure} is {best.accuracy:.1%}, "
        f"{report.compared(best, 'to_base', 'the plain model')}: `{setting['command']}`. Its static chains were found "
        "on other questions; this is the best of them on these."
    )
    return StaticChain(best.chain, setting["backbone"], measured)


def _of_labels(folder: Path, max_depth: int | None, device: str) -> StaticChain:
    stores = open_stores(folder, "--static")
    manifest = stores[0].manifest
    depths = [trial.chain.depth for store in stores for label in store for trial in label.trials]
    if not depths:
        raise UserError(f"--static {folder} holds no labels yet")
    most = max_depth or max(depths)
    if min(depths) > most:
        raise UserError(f"--static {folder} holds no chain of at most {most} layers; give more --max_depth")
    backbone = manifest.load_backbone(f"--static {folder}", None, device, manifest.model.dtype)

    @cache  # chains of a menu need none: their scores are stored
    def judges() -> dict[str, ModelJudge]:
        judge = cache(partial(make_judge, backbone))
        return {question.task: judge(one.manifest.scoring) for one in stores for question in one.questions().values()}

    found = static_chains(lambda question: judges()[question.task], stores, [most], _CANDIDATES, _QUESTIONS)
    named = ", ".join(store.manifest.source.title for store in stores)
    measured = (
        f"Of {len(found.chains)} chains in labels of {named} it gives the gold option the highest mean "
        f"log-probability among those of at most {most} layers, on {found.questions:,} of the labelled questions; on "
        "others it was not measured here."
    )
    return StaticChain(str(found.chain_at(most)), manifest.model.name, measured)


def save_static(backbone: str, static: StaticChain, folder: Path, dtype: str = "auto") -> Chain:
    """Write a backbone whose layers are a chain as a Hugging Face checkpoint: weights, configuration, tokenizer,
    ``mergekit.yaml`` and a card. A layer that runs twice is stored twice. It is loaded again with plain transformers
    before it takes its place, and its logits are compared.

    Args:
        backbone: ``embedded``, a Hugging Face id, or a folder.
        static: the chain, with what the card says of it.
        folder: to write; must not hold anything yet.
        dtype: of the weights; ``auto`` is that of the backbone's own.

    Raises:
        UserError: if the backbone cannot be loaded, the chain is not for it, or the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--output {folder} holds something already; name another folder")
    tokenizer = load_tokenizer(backbone)
    model = load_model(backbone, dtype=dtype, trust_remote_code=False)
    applied = apply_chain(model, static.chain)
    name = hub_id(backbone)
    parent = writable_folder(folder.absolute().parent)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{folder.name}-") as scratch:
        whole = Path(scratch) / "whole"
        try:
            type(model).save_pretrained(model, whole, state_dict=chain_weights(model))
            tokenizer.save_pretrained(whole)
        except OSError as error:
            raise UserError(f"--output {folder} cannot be written: {error.strerror or error}") from None
        write_text(whole / "mergekit.yaml", as_mergekit(name, applied.chain, str(model.dtype).removeprefix("torch.")))
        write_text(whole / "README.md", static_card(backbone, applied.chain, folder, static.measured))
        applied.undo()
        if uneven := uneven_lists(model.config, applied.chain):
            console.print(
                f"{' and '.join(uneven)} of the chain's layers have no period any more: transformers reads such lists, "
                "llama.cpp and vLLM do not for every type of model; compare before you serve it there",
                style="yellow",
                soft_wrap=True,
            )
        _check_written(whole, model, applied.chain)
        if folder.exists():
            folder.rmdir()
        os.replace(whole, folder)
    return applied.chain


def uneven_lists(config: Any, chain: Chain) -> list[str]:
    """Names of the lists by layer in a backbone's configuration that a chain leaves without the period they have.

    Engines that compute such lists from a period and the number of layers then load another model: llama.cpp reads
    patterns of sliding windows so.

    Args:
        config: of the whole model.
        chain: of its layers.
    """

    def holds(values: Sequence[Any], own: Sequence[Any], period: int) -> bool:
        return all(value == own[place % period] for place, value in enumerate(values))

    found = []
    for name, own in config.get_text_config().to_dict().items():
        if isinstance(own, list) and len(own) == chain.num_layers:
            period = next(period for period in range(1, len(own) + 1) if holds(own, own, period))
            if not holds([own[layer] for layer in chain.layers], own, period):
                found.append(name)
    return found


@torch.no_grad()
def _check_written(folder: Path, model: Any, chain: Chain) -> None:
    """Load a checkpoint with plain transformers and compare its logits with what the chain gives.

    Args:
        folder: of the checkpoint.
        model: the whole model; it is left in float32.
        chain: what was written.

    Raises:
        UserError: if they differ: a setting of the model then goes by the places of layers.
    """
    whole = Replay(model.float().eval(), str(folder))
    row = Row.plain(whole.probe_tokens(1, _PROBED)[0].tolist())
    recording = whole.record(row)
    expected = whole.finish(run_all(whole, Batch([recording]), recording.hidden, chain.layers)[0])
    try:
        written = load_model(str(folder), dtype=torch.float32, trust_remote_code=False).eval()
        found = written(input_ids=torch.tensor([row.tokens]), use_cache=False).logits[0]
        worst = float((found - expected).abs().max() / expected.abs().max())
    except Exception as error:  # whatever a configuration makes transformers raise that is not its weights'
        reason = f"it does not load again ({first_line(error).removeprefix(f'--backbone {folder} ')})"
    else:
        if worst < _CLOSE:
            return
        reason = f"loaded again, its logits are {worst:.1%} off"
    raise UserError(
        f"chain {chain} of {type(model).__name__} cannot be written as a checkpoint: {reason}, since what a layer is "
        "depends on its index; run it with apply_chain, or choose a chain that keeps the first layers in place"
    )


def as_mergekit(backbone: str, chain: Chain, dtype: str) -> str:
    """The passthrough merge that makes the same model: one slice with one source for each run of consecutive layers."""
    ends = [place for place, (layer, after) in enumerate(pairwise(chain.layers), 1) if after != layer + 1]
    slices = [
        {"sources": [{"model": backbone, "layer_range": [chain.layers[start], chain.layers[stop - 1] + 1]}]}
        for start, stop in pairwise((0, *ends, chain.depth))
    ]
    return yaml.safe_dump({"merge_method": "passthrough", "dtype": dtype, "slices": slices}, sort_keys=False)
