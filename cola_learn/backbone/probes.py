"""What a model can do that chains need, by trying: whether its layers replay, and how rows may run together."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cola_learn.backbone import attention
from cola_learn.backbone.recording import Batch, Recording, Together, token_dimensions
from cola_learn.backbone.rows import Row
from cola_learn.errors import UserError


class Replays(Protocol):
    """What is tried: a :class:`~cola_learn.backbone.replay.Backbone` under construction."""

    name: str
    model: Any
    layers: nn.ModuleList
    num_layers: int
    prepacked: bool
    shared_prompt_limit: int
    extra_outputs: list[int]

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def dtype_name(self) -> Any: ...

    @property
    def fingerprint(self) -> str: ...

    def record(self, row: Row) -> Recording: ...

    def record_inputs(self, **inputs: Any) -> Recording: ...

    def run_layer(self, layer: int, hidden: Tensor, batch: Together) -> Tensor: ...

    def finish(self, hidden: Tensor, alone: bool = False) -> Tensor: ...

    def probe_tokens(self, *shape: int) -> Tensor: ...


@torch.inference_mode()
def check_replay(backbone: Replays) -> None:
    """Learn what each layer returns from one real forward, then hold the replay against its logits."""

    def watch(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            backbone.extra_outputs[index] = len(output) - 1 if isinstance(output, tuple | list) else -1

        return hook

    hooks = [layer.register_forward_hook(watch(index)) for index, layer in enumerate(backbone.layers)]
    tokens = backbone.probe_tokens(1, 8)
    try:
        expected = backbone.model(input_ids=tokens, use_cache=False).logits[0]
    finally:
        for hook in hooks:
            hook.remove()
    try:
        recording = backbone.record_inputs(input_ids=tokens)
        batch, hidden = Batch([recording]), recording.hidden
        for layer in range(backbone.num_layers):
            hidden = backbone.run_layer(layer, hidden, batch)
        logits = torch.cat([backbone.finish(hidden[0, :5]), backbone.finish(hidden[0, 5:])])
    except Exception as error:
        raise UserError(
            f"--backbone {backbone.name}: {type(backbone.model).__name__} layers cannot be replayed: {error}"
        ) from error
    if not bool(expected.isfinite().all()):
        advice = "; float16 overflows in many models: use bfloat16" if backbone.dtype == torch.float16 else ""
        raise UserError(
            f"--backbone {backbone.name}: logits of a short text are not finite in {backbone.dtype_name}, so its "
            f"weights are damaged or overflow{advice}"
        )
    if not agree(logits, expected, backbone.dtype):
        raise UserError(
            f"--backbone {backbone.name}: {type(backbone.model).__name__} does more between its layers than pass on "
            "the hidden state, so chains of layers would not be the model; choose another architecture"
        )


@torch.inference_mode()
def options_can_share_a_sequence(backbone: Replays) -> bool:
    """Compare options behind one prompt with options in rows of their own, on random tokens."""
    prompt, *options = backbone.probe_tokens(3, 6).tolist()
    row = Row.with_options(prompt, options)
    if len(row.tokens) > backbone.shared_prompt_limit:
        return False  # a mask of ours would widen the window
    try:
        logits = _plain_logits(backbone, row.model_inputs(backbone.device, backbone.dtype))
    except Exception:
        return False  # the architecture takes no 4-D mask or no positions
    start = len(prompt)
    for option in options:
        alone = Row.plain([*prompt, *option])
        expected = _plain_logits(backbone, alone.model_inputs(backbone.device, backbone.dtype))
        got = torch.cat([logits[: len(prompt)], logits[start : start + len(option)]])
        if not agree(got, expected, backbone.dtype):
            return False
        start += len(option)
    return True


@torch.inference_mode()
def rows_can_be_packed(backbone: Replays, shares_prompts: bool) -> list[int | None] | None:
    """Compare rows of different lengths run as one sequence with the same rows run one by one."""
    tokens = backbone.probe_tokens(4, 9).tolist()
    rows = [Row.plain(tokens[0][:6]), Row.plain(tokens[1])]
    if shares_prompts:
        rows.append(Row.with_options(tokens[2], [tokens[3][:2], tokens[3][2:]]))
    before = backbone.model.config._attn_implementation
    if before not in attention.NAMES:
        return None
    attention.register()
    try:
        backbone.model.set_attn_implementation(attention.NAMES[before])
        recordings = [backbone.record_inputs(**row.model_inputs(backbone.device, backbone.dtype)) for row in rows]
        packing = token_dimensions(*recordings[:2])
        if packing is not None and _same_together(backbone, recordings, Batch(recordings, packing)):
            return packing
    except Exception:  # whatever an architecture trips over, stacked rows still serve
        pass
    backbone.model.set_attn_implementation(before)
    return None


@torch.inference_mode()
def rows_can_be_stacked(backbone: Replays) -> bool:
    """Compare stacked rows with the same rows run one by one."""
    recordings = [backbone.record_inputs(input_ids=tokens[None]) for tokens in backbone.probe_tokens(3, 8)]
    try:
        return _same_together(backbone, recordings, Batch(recordings))
    except RuntimeError:
        return False  # some argument mixes the batch with another dimension


def _same_together(backbone: Replays, recordings: list[Recording], batch: Batch) -> bool:
    """Whether rows run as a batch, packed or stacked, come out as each does alone."""
    hidden = torch.cat([recording.hidden for recording in recordings], 1 if batch.packed else 0)
    alone = []
    for recording in recordings:
        state, own = recording.hidden, Batch([recording])
        for layer in range(backbone.num_layers):
            state = backbone.run_layer(layer, state, own)
        alone.append(state)
    for layer in range(backbone.num_layers):
        hidden = backbone.run_layer(layer, hidden, batch)
    return agree(
        backbone.finish(hidden.flatten(0, 1)), backbone.finish(torch.cat([state[0] for state in alone])), backbone.dtype
    )


def agree(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Equal but for rounding, as far as this precision can tell."""
    if found.shape != expected.shape:
        return False
    error = (found.float() - expected.float()).abs().max() / expected.float().abs().max()
    return bool(error <= (1e-4 if dtype == torch.float32 else 0.05))


def _plain_logits(backbone: Replays, inputs: dict[str, Any]) -> Tensor:
    logits: Tensor = backbone.model(**inputs, use_cache=False).logits
    return logits[0]
