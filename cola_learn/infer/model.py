"""A controller in front of a transformers model: every prompt runs through a chain of its own."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, GenerationMixin
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from cola_learn.backbone.apply_chain import apply_chains
from cola_learn.backbone.beginning import Beginning, padded, run_beginning, unpadded
from cola_learn.backbone.layers import find_layers
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.infer.apart import generate_apart, generate_drafted
from cola_learn.infer.as_prompt import as_chat
from cola_learn.infer.cola_config import ColaConfig
from cola_learn.infer.parts import load_parts
from cola_learn.infer.turns import Turns, in_turn
from cola_learn.train.controller import Controller
from cola_learn.train.controller_card import write_controller
from cola_learn.train.controller_config import MAX_TOKENS
from cola_learn.train.hub import DOWNLOAD_OPTIONS, fetch_controller

_RECORDED = ("output_hidden_states", "output_attentions")
# Settings of generate with which a cache is reordered or laid out as a whole.
_OF_WHOLE_CACHES = (
    *("num_beams", "cache_implementation", "past_key_values"),
    *("assistant_model", "prompt_lookup_num_tokens", "prefill_chunk_size"),
)


class ColaForCausalLM(PreTrainedModel, GenerationMixin):
    """A frozen causal LM whose chain of layers is chosen for every prompt.

    ``generate`` chooses a chain for each row and keeps it for the whole answer. It is the backbone's own ``generate``
    that runs, so every option of it works. Rows run together wherever their chains share layers.

    Args:
        backbone: a causal LM of transformers. Its weights are not changed.
        controller: what chooses.
        tokenizer: of the backbone, for the methods that take text.

    Raises:
        UserError: if the controller is for a model of another depth.

    Example:
        >>> model = ColaForCausalLM.from_pretrained("checkpoints/menu")
        >>> inputs = model.tokenizer("Question: Which of these rusts?\\nAnswer:", return_tensors="pt")
        >>> model.generate(**inputs, max_new_tokens=8)
    """

    config_class = ColaConfig
    main_input_name = "input_ids"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True  # that is the backbone's affair

    def __init__(self, backbone: PreTrainedModel, controller: Controller, tokenizer: Any = None) -> None:
        depth = len(find_layers(backbone, type(backbone).__name__))
        controller.config.check_backbone(depth, controller.config.fingerprint, type(backbone).__name__)
        super().__init__(ColaConfig.of_backbone(backbone.config))
        self.backbone = backbone
        self.controller = controller.eval()
        self.tokenizer = tokenizer
        self.turns = Turns()
        self._layers = controller.config.feature_layers
        special = controller.config.special_tokens
        self._encoder = tokenizer and PromptEncoder.recorded(tokenizer, special, "the controller")

    @property
    def generation_config(self) -> GenerationConfig:
        """The backbone's, whose ``generate`` runs."""
        found: GenerationConfig = self.backbone.generation_config
        return found

    @generation_config.setter
    def generation_config(self, config: GenerationConfig) -> None:
        if "backbone" in self._modules:  # transformers' own __init__ sets one before
            self.backbone.generation_config = config

    @classmethod
    def from_pretrained(
        cls,
        controller: str | Path,
        backbone: str | Path | PreTrainedModel | None = None,
        *,
        tokenizer: Any = None,
        revision: str | None = None,
        backbone_revision: str | None = None,
        subfolder: str = "",
        trust_remote_code: bool = False,
        output_loading_info: bool = False,
        config: Any = None,
        **options: Any,
    ) -> Any:
        """Load an exported controller and the backbone that it was trained for.

        Args:
            controller: folder or hub id.
            backbone: hub id, folder, a loaded model, or a name of ours such as ``embedded``; default the one that it
                was trained for.
            tokenizer: of the backbone; default the one that lies beside it.
            revision: of the controller on the hub.
            backbone_revision: of the backbone on the hub.
            subfolder: of the controller's folder.
            trust_remote_code: run modelling code that comes with the backbone; off unless asked for.
            output_loading_info: return what transformers returns then too. No weight is ever missing.
            config: not used: what is in the folder counts.
            options: of the backbone's ``from_pretrained``: ``dtype``, ``device_map``, ``attn_implementation``, ...;
                ``token``, ``cache_dir``, ``local_files_only`` and ``force_download`` are for the controller too.

        Raises:
            UserError: if either cannot be loaded, or they do not belong together.
        """
        download = {name: options.pop(name) for name in DOWNLOAD_OPTIONS if options.get(name) is not None}
        folder = fetch_controller(controller, revision, subfolder, **download)
        hub = {"trust_remote_code": trust_remote_code, **download}
        found = cls(*load_parts(folder, backbone, tokenizer, backbone_revision, hub, options))
        loading = {name: set[str]() for name in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")}
        return (found, loading) if output_loading_info else found

    def save_pretrained(
        self, save_directory: str | Path, *, push_to_hub: bool = False, repo_id: str | None = None, **options: Any
    ) -> None:
        """Write the controller and its card, the tokenizer and the generation config; the backbone stays where it is.

        Args:
            save_directory: the folder.
            push_to_hub: upload it too.
            repo_id: on the hub; default the name of the folder.
            options: of ``push_to_hub``, such as ``token`` and ``private``.
        """
        folder = Path(save_directory)
        write_controller(self.controller, folder)
        self.generation_config.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        if push_to_hub:
            sent = {name: value for name, value in options.items() if name in signature(self.push_to_hub).parameters}
            self.push_to_hub(repo_id or folder.name, **sent)

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.backbone.device

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.backbone.get_output_embeddings()

    @in_turn
    @torch.no_grad()
    def choose_chains(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, price: float | None = None
    ) -> list[Chain]:
        """The chain for each row of prompts.

        Args:
            input_ids: ``[B, T]``.
            attention_mask: 0 where a row is padding, ``[B, T]``.
            price: of depth, default the controller's own: the gain in the log-probability of a right answer (nats) that
                all layers of the base chain are worth; more of it makes chains shorter.

        Raises:
            UserError: for a price below 0, or any if the controller was trained without one.
        """
        return self._chosen(map(self._states, unpadded(input_ids, attention_mask)), price)

    @in_turn
    @torch.no_grad()
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        chain: Chain | str | None = None,
        price: float | None = None,
        **inputs: Any,
    ) -> Any:
        """The backbone's output, with logits ``[B, T, V]`` of each row through the chain chosen for it. There are no
        gradients: train the backbone within ``apply_chain``.

        Args:
            input_ids: ``[B, T]``.
            attention_mask: 0 where a row is padding, ``[B, T]``.
            labels: as of any causal LM, ``[B, T]``; with them there is a loss.
            chain: run this one instead of choosing.
            price: of depth, as for ``choose_chains``.
            inputs: what else the backbone's forward takes.

        Raises:
            ValueError: for what cannot be had: a cache (``generate`` keeps its own), ``inputs_embeds`` without a chain,
                and hidden states or attentions of rows of different chains.
        """
        if own := [name for name in ("past_key_values", "use_cache") if inputs.pop(name, None) not in (None, False)]:
            raise ValueError(f"{own[0]} is not supported by forward; call generate, or the backbone in apply_chain")
        inputs |= {"use_cache": False, "input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        if chain is None and "lm_eval.models.huggingface" in sys.modules:
            logging.get_logger(__name__).warning_once(
                "the controller reads the option that is scored too; lm_eval --model cola reads the context alone"
            )
        chains, beginning = self._begin(self.backbone, inputs, self.backbone.config, chain, price)
        with apply_chains(self.backbone, chains, beginning) as model:
            return model(**{name: value for name, value in inputs.items() if value is not None})

    @in_turn
    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        chain: Chain | str | None = None,
        price: float | None = None,
        draft: bool = False,
        **options: Any,
    ) -> Any:
        """The backbone's ``generate``, each row through the chain chosen for its prompt.

        Args:
            inputs: prompts ``[B, T]``, padded on the left; also as ``input_ids``.
            generation_config: as of transformers.
            chain: run this one instead of choosing.
            price: of depth, as for ``choose_chains``.
            draft: the chain only drafts, and the plain model writes: its own text, token for token.
            options: ``attention_mask``, ``max_new_tokens``, ``streamer`` and all else that ``generate`` takes.

        Raises:
            ValueError: for ``return_dict_in_generate`` with beams or a static cache and rows of different chains.
        """
        input_ids = options.pop("input_ids", inputs)
        settings = generation_config or self.generation_config
        options |= {"generation_config": generation_config}
        options |= {} if input_ids is None else {"input_ids": input_ids}
        whole = [name for name in _OF_WHOLE_CACHES if options.get(name, getattr(settings, name, None)) not in (None, 1)]
        if draft or whole:
            chains, beginning = self._chains(options, chain, price), None
            if draft:
                return generate_drafted(self.backbone, chains, options, settings)
            if len(set(chains)) > 1:
                return generate_apart(self.backbone, chains, options, settings, whole[0])
        else:
            chains, beginning = self._begin(self.backbone.generate, options, settings, chain, price)
        with apply_chains(self.backbone, chains, beginning) as model:
            return model.generate(**options)

    def choose(self, prompt: str, price: float | None = None) -> Chain:
        """``choose_chains`` for a text."""
        return self.choose_chains(self._encoded(prompt), price=price)[0]

    def write(
        self, prompts: str | Sequence[str], chain: Chain | str | None = None, price: float | None = None, **options: Any
    ) -> Any:
        """``generate`` for a text, or for a list of them; greedy and 64 tokens unless ``options`` say otherwise."""
        rows = [self._encoded(text)[0] for text in ([prompts] if isinstance(prompts, str) else prompts)]
        ids, mask = padded(rows)
        settings = {"max_new_tokens": 64, "do_sample": False, "tokenizer": self.tokenizer, **options}
        found = self.generate(ids, attention_mask=mask, chain=chain, price=price, **settings)
        new = self.tokenizer.batch_decode(found[:, ids.shape[1] :], skip_special_tokens=True)
        texts = list(map(str.strip, new))
        return texts[0] if isinstance(prompts, str) else texts

    def chat(
        self,
        messages: str | Sequence[Mapping[str, str]],
        chain: Chain | str | None = None,
        price: float | None = None,
        tools: Sequence[Any] | None = None,
        template: Mapping[str, Any] = MappingProxyType({}),
        **options: Any,
    ) -> str:
        """The answer to a question, or to a conversation as chat templates take it; ``tools`` and ``template`` are
        options of the chat template, the others those of ``write``. A controller of texts chooses by the last message;
        one of choices says little of text, and the plain chain runs unless a chain or a price is given."""
        if chain is None and self.controller.config.kind == "response":
            chain = self.choose(messages if isinstance(messages, str) else str(messages[-1]["content"]), price)
        elif chain is None and price is None:
            chain = Chain.base(self.controller.config.num_layers)
        text = as_chat(messages, self.tokenizer, {**template, "tools": tools} if tools else template)
        return str(self.write(text, chain, price, **options))

    def _encoded(self, text: str) -> Tensor:
        if self._encoder is None:
            raise ValueError("there is no tokenizer; load with from_pretrained(..., tokenizer=...)")
        return torch.tensor([self._encoder.prompt(text)], device=self.device)

    def _states(self, row: Tensor) -> Tensor:
        """What the controller reads of a prompt ``[T]``: ``[T, F, H]``."""
        if self._encoder is not None:
            row = torch.tensor(self._encoder.cut(row.tolist(), len(row) - MAX_TOKENS), device=row.device)
        row = row[None, -MAX_TOKENS:]
        read = run_beginning(self.backbone, max(self._layers), lambda: self.backbone(input_ids=row, use_cache=False))
        return next(read.prompts(self._layers, torch.ones_like(row)))

    def _begin(
        self,
        call: Callable[..., Any],
        options: Mapping[str, Any],
        settings: Any,
        chain: Chain | str | None,
        price: float | None,
    ) -> tuple[list[Chain], Beginning | None]:
        """The chain of each row, and the layers that were run to choose it, for what is to go on as ``call`` does with
        these options and, beside them, settings."""
        recorded = [name for name in _RECORDED if options.get(name, getattr(settings, name, None))]
        input_ids: Any = options.get("input_ids")
        read = input_ids is not None and max(self._layers) > 0 and input_ids.shape[1] <= MAX_TOKENS
        if chain is not None or recorded or not read:
            chains = self._chains(options, chain, price)
            if recorded and len(set(chains)) > 1:
                raise ValueError(f"{recorded[0]} is not supported with several chains; give one prompt, or chain=")
            return chains, None
        own = {name: value for name, value in options.items() if name not in ("streamer", "labels")}
        beginning = run_beginning(self.backbone, max(self._layers), lambda: call(**own))
        mask = options.get("attention_mask")
        states = beginning.prompts(self._layers, torch.ones_like(input_ids) if mask is None else mask)
        return self._chosen(states, price), beginning

    def _chosen(self, states: Iterable[Tensor], price: float | None) -> list[Chain]:
        """The chain for each prompt's states ``[T, F, H]``."""
        if price is not None:
            self.controller.rule.check_price(price, "the controller")
        return [self.controller.choose(state, price) for state in states]

    def _chains(self, options: Mapping[str, Any], chain: Chain | str | None, price: float | None) -> list[Chain]:
        """The chain of each row: the one given, or the one chosen for it."""
        input_ids = options.get("input_ids")
        if chain is None:
            if input_ids is None:
                raise ValueError("inputs_embeds is not supported without chain=; a chain is chosen by input_ids")
            return self.choose_chains(input_ids, options.get("attention_mask"), price)
        if isinstance(chain, str):
            try:
                chain = Chain.parse(chain, self.controller.config.num_layers)
            except ValueError as error:
                raise UserError(str(error)) from None
        return [chain] * len(options["inputs_embeds"] if input_ids is None else input_ids)


AutoConfig.register("cola", ColaConfig)
AutoModelForCausalLM.register(ColaConfig, ColaForCausalLM)
