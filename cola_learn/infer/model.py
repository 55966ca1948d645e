"""A controller in front of a transformers model: every prompt runs through a chain of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from cola_learn.backbone.apply_chain import apply_chains
from cola_learn.backbone.beginning import Beginning, run_beginning
from cola_learn.backbone.fingerprint import changed_weight, of_files, of_memory
from cola_learn.backbone.layers import find_layers
from cola_learn.backbone.load import load_model, load_tokenizer, source_of
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.infer.apart import generate_apart, generate_drafted, padded, unpadded
from cola_learn.infer.as_prompt import as_chat
from cola_learn.infer.cola_config import ColaConfig
from cola_learn.infer.turns import Turns, in_turn
from cola_learn.train.controller import Controller
from cola_learn.train.controller_card import write_controller
from cola_learn.train.controller_config import MAX_TOKENS

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

    Attributes:
        backbone, controller, tokenizer: as given.

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
        text = backbone.config.get_text_config(decoder=True)
        config = ColaConfig(backbone=backbone.config.to_dict())
        config.vocab_size = getattr(text, "vocab_size", None)
        config.max_position_embeddings = getattr(text, "max_position_embeddings", None)
        super().__init__(config)
        self.backbone = backbone
        self.controller = controller.eval()
        self.tokenizer = tokenizer
        self.generation_config = backbone.generation_config
        self.turns = Turns()
        self._layers = controller.config.feature_layers
        special = controller.config.special_tokens
        self._encoder = tokenizer and PromptEncoder.recorded(tokenizer, special, "the controller")

    @classmethod
    def from_pretrained(
        cls,
        controller: str | Path,
        backbone: str | Path | PreTrainedModel | None = None,
        *,
        tokenizer: Any = None,
        revision: str | None = None,
        backbone_revision: str | None = None,
        trust_remote_code: bool = False,
        config: Any = None,
        **options: Any,
    ) -> "ColaForCausalLM":
        """Load an exported controller and the backbone that it was trained for.

        Args:
            controller: folder or hub id.
            backbone: hub id, folder, a loaded model, or a name of ours such as ``embedded``; default the one that it
                was trained for.
            tokenizer: of the backbone; default the one that lies beside it.
            revision: of the controller on the hub.
            backbone_revision: of the backbone on the hub.
            trust_remote_code: run modelling code that comes with the backbone; off unless asked for.
            config: not used: what is in the folder counts.
            options: of the backbone's ``from_pretrained``: ``dtype``, ``device_map``, ``attn_implementation``, ...

        Raises:
            UserError: if either cannot be loaded, or they do not belong together.
        """
        chooser = Controller.from_pretrained(controller, revision)
        hub: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        hub |= {name: options.pop(name) for name in ("cache_dir", "force_download", "token") if name in options}
        if isinstance(backbone, PreTrainedModel):
            model, name = backbone, str(backbone.config.name_or_path)
        else:
            name = str(backbone or chooser.config.backbone)
            hub |= {"revision": backbone_revision} if backbone_revision else {}
            model = load_model(name, **hub, **options)
        source = source_of(name)
        if tokenizer is None and source:
            tokenizer = load_tokenizer(name, **hub)
        fingerprint = of_files(source) or of_memory(model, tokenizer)
        chooser.config.check_backbone(len(find_layers(model, name)), fingerprint, name)
        if model is backbone and (weight := changed_weight(model, source)):
            raise UserError(
                f"{weight} of the loaded backbone is not what it is in {name}, which the controller was trained for; "
                "ColaForCausalLM(backbone, Controller.from_pretrained(...)) takes it all the same"
            )
        return cls(model.eval(), chooser.to(model.device), tokenizer)

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """Write the controller and its card; the backbone stays where it is.

        Raises:
            UserError: if the folder cannot be written.
        """
        write_controller(self.controller, Path(save_directory))

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.backbone.device

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.backbone.get_output_embeddings()

    @in_turn
    @torch.inference_mode()
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
    @torch.inference_mode()
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        chain: Chain | str | None = None,
        price: float | None = None,
        **inputs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits ``[B, T, V]`` of each row through the chain chosen for it, without a cache.

        Args:
            input_ids: ``[B, T]``.
            attention_mask: 0 where a row is padding, ``[B, T]``.
            labels: as of any causal LM, ``[B, T]``; with them there is a loss.
            chain: run this one instead of choosing.
            price: of depth, as for ``choose_chains``.
            inputs: what else the backbone's forward takes.

        Raises:
            ValueError: for a cache that was made elsewhere; ``generate`` keeps its own.
        """
        if inputs.pop("past_key_values", None) is not None:
            raise ValueError(
                "past_key_values is not supported by forward; call generate, or the backbone within apply_chain"
            )
        inputs["use_cache"] = False
        inputs |= {"input_ids": input_ids, "attention_mask": attention_mask}
        chains, beginning = self._begin(self.backbone, inputs, chain, price)
        with apply_chains(self.backbone, chains, beginning) as model:
            logits = model(**inputs).logits
        loss = None
        if labels is not None:
            loss = self.backbone.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1])
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    @in_turn
    @torch.inference_mode()
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

        Returns:
            What transformers returns.

        Raises:
            ValueError: for ``return_dict_in_generate`` with beams or a static cache and rows of different chains.
        """
        input_ids = options.pop("input_ids", inputs)
        if input_ids is None:
            raise ValueError("generate needs input_ids to choose a chain for")
        settings = generation_config or self.generation_config
        options |= {"input_ids": input_ids, "generation_config": generation_config}
        if draft:
            drafting = self._chains(input_ids, options.get("attention_mask"), chain, price)
            return generate_drafted(self.backbone, drafting, options, settings)
        whole = [name for name in _OF_WHOLE_CACHES if options.get(name, getattr(settings, name, None)) not in (None, 1)]
        if whole:
            chains, beginning = self._chains(input_ids, options.get("attention_mask"), chain, price), None
            if len(set(chains)) > 1:
                return generate_apart(self.backbone, chains, options, settings, whole[0])
        else:
            chains, beginning = self._begin(self.backbone.generate, options, chain, price)
        with apply_chains(self.backbone, chains, beginning) as model:
            return model.generate(**options)

    def choose(self, prompt: str, price: float | None = None) -> Chain:
        """``choose_chains`` for a text."""
        return self.choose_chains(self._encoded(prompt), price=price)[0]

    def alternatives(self, prompt: str, count: int = 5) -> list[tuple[Chain, float]]:
        """The most probable chains for a text with log-probabilities, or those of a menu with what they are chosen by,
        best first."""
        return self.controller.write(self._states(self._encoded(prompt)[0]), count)

    @overload
    def write(
        self, prompts: str, chain: Chain | str | None = None, price: float | None = None, **options: Any
    ) -> str: ...

    @overload
    def write(
        self, prompts: Sequence[str], chain: Chain | str | None = None, price: float | None = None, **options: Any
    ) -> list[str]: ...

    def write(
        self,
        prompts: str | Sequence[str],
        chain: Chain | str | None = None,
        price: float | None = None,
        **options: Any,
    ) -> str | list[str]:
        """``generate`` for a text or several; greedy and 64 tokens unless ``options`` say otherwise."""
        rows = [self._encoded(text)[0] for text in ([prompts] if isinstance(prompts, str) else prompts)]
        ids, mask = padded(rows)
        settings = {"max_new_tokens": 64, "do_sample": False, **options}
        if settings.get("stop_strings"):
            settings["tokenizer"] = self.tokenizer
        found = self.generate(ids, attention_mask=mask, chain=chain, price=price, **settings)
        texts = [str(self.tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True)).strip() for row in found]
        return texts[0] if isinstance(prompts, str) else texts

    def chat(
        self,
        messages: str | Sequence[Mapping[str, str]],
        chain: Chain | str | None = None,
        price: float | None = None,
        **options: Any,
    ) -> str:
        """The answer to a question, or to a conversation as chat templates take it; options as for ``write``. The plain
        chain runs unless a chain or a price is given: what a controller learned of choices says little of text."""
        chain = Chain.base(self.controller.config.num_layers) if chain is None and price is None else chain
        return self.write(as_chat(messages, self.tokenizer), chain, price, **options)

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
        self, call: Callable[..., Any], options: Mapping[str, Any], chain: Chain | str | None, price: float | None
    ) -> tuple[list[Chain], Beginning | None]:
        """The chain of each row, and the layers that were run to choose it, for what is to go on as ``call`` does with
        these options."""
        input_ids, attention_mask = options["input_ids"], options.get("attention_mask")
        if chain is not None or max(self._layers) == 0 or input_ids.shape[1] > MAX_TOKENS:
            return self._chains(input_ids, attention_mask, chain, price), None
        own = {name: value for name, value in options.items() if name not in ("streamer", "labels")}
        beginning = run_beginning(self.backbone, max(self._layers), lambda: call(**own))
        states = beginning.prompts(
            self._layers, torch.ones_like(input_ids) if attention_mask is None else attention_mask
        )
        return self._chosen(states, price), beginning

    def _chosen(self, states: Iterable[Tensor], price: float | None) -> list[Chain]:
        """The chain for each prompt's states ``[T, F, H]``."""
        if price is not None:
            self.controller.rule.check_price(price, "the controller")
        return [self.controller.choose(state, price) for state in states]

    def _chains(
        self, input_ids: Tensor, attention_mask: Tensor | None, chain: Chain | str | None, price: float | None
    ) -> list[Chain]:
        """The chain of each row: the one given, or the one chosen for it."""
        if chain is None:
            return self.choose_chains(input_ids, attention_mask, price)
        if isinstance(chain, str):
            try:
                chain = Chain.parse(chain, self.controller.config.num_layers)
            except ValueError as error:
                raise UserError(str(error)) from None
        return [chain] * len(input_ids)


AutoConfig.register("cola", ColaConfig)
AutoModelForCausalLM.register(ColaConfig, ColaForCausalLM)
