"""Every causal-LM architecture of transformers, built tiny from its configuration, and the independent reference.

``python -m tests.architectures --output docs/architectures.md`` tries them all and writes the table.
"""

import copy
import importlib.metadata
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.rows import Row
from cola_learn.chains import Chain
from cola_learn.command import Command
from cola_learn.console import progress_bar
from cola_learn.errors import UserError
from cola_learn.files import write_text

LAYERS = 4
TOLERANCE = 1e-4  # of the largest logit, float32
_SIZES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.2, ("initializer_range", "init_std", "initializer_factor")),  # so that every part of a layer is felt
    (32, ("hidden_size", "n_embd", "d_model", "model_dim", "word_embed_proj_dim", "embedding_size", "lru_width")),
    (48, ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff", "mlp_hidden_size", "decoder_ffn_dim")),
    (LAYERS, ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers")),
    (4, ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "num_experts")),
    (4, ("num_local_experts", "n_routed_experts", "moe_num_experts", "linear_num_heads", "index_n_heads")),
    (8, ("head_dim", "state_size", "sliding_window", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")),
    (8, ("rotary_dim",)),
    (8, ("linear_head_dim", "linear_key_head_dim", "linear_value_head_dim", "index_head_dim", "index_topk")),
    (8, ("mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_head_dim", "router_hidden_size", "laurel_rank")),
    (8, ("hidden_size_per_layer_input",)),
    (2, ("num_key_value_heads", "num_kv_heads", "num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts")),
    (2, ("num_experts_per_token", "linear_num_key_heads", "zero_expert_num", "num_dense_layers")),
    (4, ("linear_num_value_heads",)),
    (16, ("moe_intermediate_size", "shared_expert_intermediate_size", "q_lora_rank", "kv_lora_rank")),
    (16, ("shared_intermediate_size", "expert_ffn_hidden_size")),
    (97, ("vocab_size", "vocab_size_per_layer_input")),
    (64, ("max_position_embeddings", "n_positions", "max_sequence_length")),
    (1, ("n_group", "num_expert_group", "topk_group", "first_k_dense_replace", "bos_token_id", "n_shared_experts")),
    (2, ("eos_token_id",)),
    (0, ("pad_token_id",)),
)
_SMALL = {name: size for size, names in _SIZES for name in names}
# What the rules above cannot know: sizes that must fit each other.
_MIXED = ["linear_attention", "full_attention"] * 2
_EXPERTS = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}
_SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "deepseek_v2": _EXPERTS,
    "dots1": _EXPERTS,
    "falcon_h1": {"mamba_d_ssm": 64},
    "granitemoehybrid": {"layer_types": _MIXED},
    "gemma4_text": {"hidden_size_per_layer_input": 0},  # the reference cannot reorder a table of them
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 4, "moe_topk": [2] * LAYERS, "num_shared_expert": [1] * LAYERS},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba": {"time_step_rank": 2},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "qwen3_next": {"layer_types": _MIXED},
    "rwkv": {"rescale_every": 2},  # as in every real one it happens several times
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    "xlm": {"emb_dim": 32},
    "xmod": {"default_language": "en_XX"},
}


@cache
def model_types() -> tuple[str, ...]:
    """Every model type that has a causal LM."""
    return tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


def tiny_model(model_type: str) -> Any:
    """A randomly initialised model of four layers.

    Raises:
        Exception: whatever transformers raises where the small sizes do not fit together.
    """
    config = _tiny_config(CONFIG_MAPPING[model_type], _SPECIAL.get(model_type, {}))
    with torch.device("meta"):
        size = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if size > 20e6:
        raise ValueError(f"{size / 1e6:.0f} M parameters with the small sizes")
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def _tiny_config(config_class: Any, special: dict[str, Any]) -> Any:
    default = config_class()
    known = default.to_dict()
    values: dict[str, Any] = {name: size for name, size in _SMALL.items() if known.get(name) is not None}
    if known.get("num_key_value_heads") == known.get("num_attention_heads"):
        values["num_key_value_heads"] = _SMALL["num_attention_heads"]  # no grouping, which some rely on
    for name, value in known.items():
        if isinstance(value, list) and len(value) == getattr(default, "num_hidden_layers", -1) and len(value) > 0:
            values[name] = _some_of_each(value)
        elif name in getattr(default, "sub_configs", {}) and isinstance(value, dict):
            sub_class = type(getattr(default, name))
            values[name] = _tiny_config(sub_class, {}).to_dict()
    return config_class(**{**values, **special})


def _some_of_each(kinds: list[Any]) -> list[Any]:
    """Four entries of a list by layer, with as many of its kinds as fit."""
    if not all(isinstance(kind, str) for kind in kinds):
        return kinds[:LAYERS]
    distinct = list(dict.fromkeys(kinds))
    return [distinct[index % len(distinct)] for index in range(LAYERS)]


def wild_chains(num_layers: int) -> list[Chain]:
    """Chains that skip, loop single layers and blocks, run out of order and end early."""
    last = num_layers - 1
    texts = [f"0-{last}", f"0 2-{last}", f"0-1 (2)x3 3-{last}", "0 (1-2)x2", f"(0-{last})x2", "1 0 2 1"]
    return [Chain.parse(text, num_layers) for text in texts]


def rebuilt_logits(model: Any, chain: Chain, tokens: Tensor) -> Tensor:
    """Independent reference: a copy of the model whose list of layers is the chain, run as it is."""
    clone = copy.deepcopy(model)
    config = clone.config.get_text_config()
    for module in clone.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ModuleList) and len(child) == chain.num_layers:
                setattr(module, name, nn.ModuleList([child[layer] for layer in chain.layers]))
                if hasattr(module, "first_kv_shared_layer_idx"):  # Gemma 4: of none shared, the number of layers
                    module.first_kv_shared_layer_idx = chain.depth
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == chain.num_layers:  # what is configured layer by layer
            setattr(config, name, [value[layer] for layer in chain.layers])
    config.num_hidden_layers = chain.depth
    with torch.inference_mode():
        return clone(input_ids=tokens, use_cache=False).logits[0]


def replayed_logits(backbone: Backbone, chain: Chain, tokens: Tensor) -> Tensor:
    executor = Executor(backbone)
    handle = executor.open(Row.plain(tokens[0].tolist()))
    return backbone.finish(executor.run([(handle, chain)])[0])


@dataclass(frozen=True)
class Finding:
    """What was found out about one architecture.

    Attributes:
        model_type, class_name: of transformers.
        base: error of the base chain against the model's own logits, as a share of the largest; None: not run.
        chains: the largest such error over other chains against the rebuilt model; None: no reference.
        shares_prompts, packed, slotted: as the backbone found.
        note: why it was not built, or is refused, or has no reference.
    """

    model_type: str
    class_name: str
    base: float | None = None
    chains: float | None = None
    shares_prompts: bool = False
    packed: bool = False
    slotted: bool = False
    note: str = ""


def examine(model_type: str) -> Finding:
    """Build, load and compare one architecture."""
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    class_name = name if isinstance(name, str) else name[0]
    try:
        model = tiny_model(model_type)
        tokens = torch.randint(3, 97, (1, 24), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            plain = model(input_ids=tokens, use_cache=False).logits[0]
        if not plain.isfinite().all():
            raise ValueError("logits are not finite with random weights")
    except Exception as error:
        return Finding(model_type, class_name, note=f"not built: {_first_line(error)}")
    try:
        backbone = Backbone(model, None, model_type)
    except UserError as error:
        return Finding(model_type, class_name, note=f"refused: {_first_line(error)}")
    try:
        base = _error(replayed_logits(backbone, Chain.base(LAYERS), tokens), plain)
    except Exception as error:
        return Finding(model_type, class_name, note=f"fails: {_first_line(error)}")
    shape: dict[str, Any] = {
        "shares_prompts": backbone.capabilities.shares_prompts,
        "packed": backbone.capabilities.packing is not None,
        "slotted": backbone.capabilities.slots,
    }
    try:
        expected = [(chain, rebuilt_logits(model, chain, tokens)) for chain in wild_chains(LAYERS)]
    except Exception as error:
        note = f"no reference: the model cannot be rebuilt in another order ({_first_line(error)})"
        return Finding(model_type, class_name, base, note=note, **shape)
    chains = max(_error(replayed_logits(backbone, chain, tokens), logits) for chain, logits in expected)
    return Finding(model_type, class_name, base, chains, **shape)


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].replace("|", "/")[:160]


@dataclass(frozen=True)
class TableOptions:
    """Options of the table.

    Attributes:
        output: Markdown file to write.
    """

    output: Path


def write_table(options: TableOptions) -> None:
    """Examine every architecture and write the table."""
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    findings = []
    with progress_bar() as bar:
        task = bar.add_task("architectures", total=len(model_types()), unit="models", note="")
        for model_type in model_types():
            findings.append(examine(model_type))
            bar.advance(task)
    write_text(options.output, as_markdown(findings))


def as_markdown(findings: list[Finding]) -> str:
    run = [finding for finding in findings if finding.base is not None]
    sound = [finding for finding in run if (finding.base or 0) <= TOLERANCE and (finding.chains or 0) <= TOLERANCE]
    counts = {kind: sum(kind in finding.note for finding in findings) for kind in ("refused", "not built")}
    transformers = importlib.metadata.version("transformers")
    lines = [
        "# Architectures",
        "",
        f"Made by `python -m tests.architectures --output docs/architectures.md` with transformers {transformers} and "
        f"torch {torch.__version__.split('+')[0]}, on tiny random models of {LAYERS} layers in float32. Of "
        f"{len(findings)} causal-LM model types {len(sound)} replay correctly, {counts['refused']} are refused at load "
        f"time with a clear error, and {counts['not built']} could not be built tiny from their configuration alone "
        "(nothing is known about those).",
        "",
        "**base**: largest difference of the base chain's logits from the model's own, as a share of the largest "
        "logit. **chains**: the same for chains that skip, loop and reorder layers, against a copy of the model whose "
        "layer list is rebuilt. **shared prompt**: the options of a question share one sequence behind their prompt. "
        "**packed**: rows of different lengths run as one sequence without padding; otherwise rows of equal padded "
        "length are stacked. "
        "**slots**: generation keeps keys and values for each visit of a layer; otherwise every step runs all tokens.",
        "",
        "| model type | class | base | chains | shared prompt | packed | slots | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for finding in sorted(findings, key=lambda finding: (finding.base is None, finding.model_type)):
        found = (finding.shares_prompts, finding.packed, finding.slotted)
        shape = " | ".join(("yes" if it else "no") if finding.base is not None else "" for it in found)
        lines.append(
            f"| {finding.model_type} | {finding.class_name} | {_size(finding.base)} | {_size(finding.chains)} "
            f"| {shape} | {finding.note} |"
        )
    return "\n".join(lines) + "\n"


def _size(error: float | None) -> str:
    if error is None:
        return ""
    return "exact" if error == 0 else f"{error:.0e}"


if __name__ == "__main__":
    Command(TableOptions, write_table, "Try every causal-LM architecture of transformers.")("tests.architectures")
