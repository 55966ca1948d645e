"""The frozen LLM as the rest of the package knows it: a model that replays, its tokenizer and its capabilities."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cola_learn.backbone import attention
from cola_learn.backbone.dtypes import Bos
from cola_learn.backbone.fingerprint import of_memory
from cola_learn.backbone.probes import probe
from cola_learn.backbone.replay import Replay
from cola_learn.backbone.tokens import PromptEncoder


class Backbone(Replay):
    """A frozen Hugging Face causal LM whose layers can be run in any order.

    Args:
        model: any decoder-only model in eval mode, on its device.
        tokenizer: its tokenizer.
        name: how the user named it, kept in every output.
        bos: which special tokens are written before prompts (``PromptEncoder``).
        fingerprint: of the files that the model was loaded from; None takes that of its weights in memory.

    Attributes:
        capabilities: how rows of it may run together, found out by trying (``probes.py``).
        call_tokens: most tokens in a call. On a CPU a call is best kept within the caches, a GPU wants to be filled.

    Raises:
        UserError: if the decoder layers cannot be found or do not replay to the model's own logits.
    """

    def __init__(
        self, model: Any, tokenizer: Any, name: str, bos: Bos = "auto", fingerprint: str | None = None
    ) -> None:
        super().__init__(model, name)
        self.tokenizer = tokenizer
        self._bos: Bos = bos
        self._fingerprint = fingerprint
        self.capabilities = probe(self, self.fingerprint)
        if self.capabilities.packing is not None:
            attention.install(model)
        usual = 512 if self.device.type == "cpu" else 32768
        self.call_tokens = max(self.capabilities.call_sizes, default=usual)

    @property
    def vocabulary(self) -> int:
        """How many tokens have an embedding."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @cached_property
    def encoder(self) -> PromptEncoder:
        """Gives the token ids of prompts."""
        return PromptEncoder(self.tokenizer, self._bos, self.vocabulary)

    def write_special_tokens(self, special_tokens: str, source: str) -> None:
        """Write the special tokens before prompts that ``source``, a manifest or controller, records.

        Raises:
            UserError: if the tokenizer cannot.
        """
        self.encoder = PromptEncoder.recorded(self.tokenizer, special_tokens, source, self.vocabulary)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that tell two backbones apart, the same in every precision if it was loaded from files."""
        return self._fingerprint or of_memory(self.model, self.tokenizer)

    @contextmanager
    def unfilled(self) -> Iterator[None]:
        """Calls of any number of tokens, none filled up to a batch-invariant size: what a question itself costs."""
        before = self.capabilities
        self.capabilities = replace(before, call_sizes=())
        try:
            yield
        finally:
            self.capabilities = before

    def logits(self, hidden: Tensor) -> Tensor:
        """``finish``, batch-invariant where the backbone is: ``[P, H]`` to ``[P, V]``, filled up to a call size."""
        count = len(hidden)
        missing = min(self.capabilities.missing(count), self.max_tokens - count)
        if missing > 0:
            hidden = torch.cat([hidden, hidden[-1:].expand(missing, -1)])
        return self.finish(hidden)[:count]
