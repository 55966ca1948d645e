"""A backbone with a controller in front: every prompt runs through a chain of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from cola_learn.backbone.generate import Generator
from cola_learn.backbone.load import load_backbone
from cola_learn.backbone.options import Decoding, Dtype
from cola_learn.backbone.replay import Backbone
from cola_learn.chains import Chain
from cola_learn.tasks.questions import Question, as_sample
from cola_learn.train.controller import Controller
from cola_learn.train.features import prompt_features


@dataclass(frozen=True)
class ColaForCausalLM:
    """A frozen causal LM whose chain of layers is chosen for every prompt.

    Attributes:
        backbone: the frozen model.
        controller: what chooses.
    """

    backbone: Backbone
    controller: Controller

    @classmethod
    def from_pretrained(
        cls, controller: Path | str, backbone: str | None = None, device: str = "auto", dtype: Dtype = "auto"
    ) -> "ColaForCausalLM":
        """Load an exported controller and the backbone it was trained for (or name that backbone's place).

        Raises:
            UserError: if either cannot be loaded or they do not belong together.
        """
        chooser = Controller.from_pretrained(controller)
        model = load_backbone(backbone or chooser.config.backbone, device, dtype)
        chooser.config.check_backbone(model.num_layers, model.fingerprint, model.name)
        model.heed(chooser.config.special_tokens, f"controller {controller}")
        return cls(model, chooser)

    def choose(self, prompt: str, price: float | None = None) -> Chain:
        """The chain for a prompt. ``price`` is that of depth, default the controller's own: the gain in the probability
        of a right answer that all layers of the base chain are worth; more of it makes chains shorter.

        Raises:
            UserError: for a price below 0, or any if the controller was trained without one.
        """
        return self._choose([prompt], price)[0]

    def alternatives(self, prompt: str, count: int = 5) -> list[tuple[Chain, float]]:
        """The most probable chains for a prompt with log-probabilities, best first."""
        return self.controller.write(prompt_features(self.backbone, [prompt], self._layers)[0], count)

    @overload
    def generate(
        self,
        prompts: str,
        chain: Chain | None = None,
        decoding: Decoding | None = None,
        price: float | None = None,
        **utilities: Any,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompts: Sequence[str],
        chain: Chain | None = None,
        decoding: Decoding | None = None,
        price: float | None = None,
        **utilities: Any,
    ) -> list[str]: ...

    def generate(
        self,
        prompts: str | Sequence[str],
        chain: Chain | None = None,
        decoding: Decoding | None = None,
        price: float | None = None,
        **utilities: Any,
    ) -> str | list[str]:
        """Continuations of one prompt or of several together, each through the chain chosen for it.

        Args:
            prompts: plain text, or a chat already written in the model's template; one or a sequence of them.
            chain: run this one instead of choosing.
            decoding: limit, temperature, stop texts; greedy and 64 tokens by default.
            price: of depth, as :meth:`choose` takes it.
            utilities: ``logits_processor``, ``stopping_criteria`` or ``streamer`` of transformers.

        Returns:
            A text for a text, a list of texts for a sequence.

        Raises:
            UserError: if a prompt is empty or too long for the model, or for a price that :meth:`choose` refuses.
        """
        tokenizer = self.backbone.tokenizer
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        tokens = [self.backbone.encoder.prompt(text) for text in texts]
        chains = [chain] * len(texts) if chain else self._choose(texts, price)
        rows = self._generator.generate(tokens, chains, decoding, **utilities)
        written = [str(tokenizer.decode(row, skip_special_tokens=True)).strip() for row in rows]
        return written[0] if isinstance(prompts, str) else written

    def chat(self, question: str) -> str:
        """:func:`as_chat` with the backbone's tokenizer."""
        return as_chat(question, self.backbone.tokenizer)

    def _choose(self, prompts: Sequence[str], price: float | None) -> list[Chain]:
        if price is not None:
            self.controller.rule.check_price(price, "the controller")
        features = prompt_features(self.backbone, prompts, self._layers, shown=False)  # a library call draws no bars
        return [self.controller.choose(prompt, price) for prompt in features]

    @cached_property
    def _generator(self) -> Generator:
        return Generator(self.backbone)

    @property
    def _layers(self) -> tuple[int, ...]:
        return self.controller.config.feature_layers


def as_prompt(question: str) -> str:
    """A free question as the benchmarks write theirs, which is what controllers are trained to read."""
    return as_sample(Question("", "", "", question, ("", ""), 0)).prompt


def as_chat(question: str, tokenizer: Any) -> str:
    """A question in a tokenizer's chat template, or as ``Question: ... Answer:`` if it has none."""
    if tokenizer.chat_template is None:
        return as_prompt(question)
    turns = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
