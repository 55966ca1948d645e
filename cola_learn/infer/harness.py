"""lm-evaluation-harness: the model type ``cola``.

``python -m cola_learn.infer.harness`` is ``lm_eval`` with that type registered: ``--model cola --model_args
controller=checkpoints/menu``, or ``"chain=0-17 20-29"`` for a static chain. In Python, importing this module registers
it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from cola_learn.backbone.apply_chain import apply_chain
from cola_learn.backbone.fingerprint import base_of_adapter, of_files
from cola_learn.backbone.load import check_weights, locate
from cola_learn.chains import Chain
from cola_learn.console import console
from cola_learn.infer.model import ColaForCausalLM
from cola_learn.train.controller import Controller

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@register_model("cola")
class ColaLM(HFLM):
    """The harness's Hugging Face model, each request through the chain chosen for its context.

    Documents whose perplexity is measured have no context that a controller could read: they run through the plain
    chain, unless a chain is given.

    Args:
        controller: folder or hub id of an exported controller.
        chain: run this chain for all requests instead.
        backbone: default the one that the controller was trained for, or ``embedded``.
        price: of depth.
        options: of ``lm_eval.models.huggingface.HFLM``, which loads the backbone: ``device``, ``dtype``,
            ``batch_size``, ``peft``, ``gguf_file``, ``parallelize``, ``attn_implementation``, quantization, ...

    Raises:
        ValueError: unless one of controller and chain is given.
        UserError: if the backbone is another than the controller was trained for, or weights of it are missing.
    """

    def __init__(
        self,
        controller: str | None = None,
        chain: str | None = None,
        backbone: str | None = None,
        price: float | None = None,
        **options: Any,
    ) -> None:
        if (controller is None) == (chain is None):
            raise ValueError("give controller=FOLDER to have chains chosen, or chain=... to run one, one of them")
        chooser = Controller.from_pretrained(controller) if controller is not None else None
        name = backbone or (chooser.config.backbone if chooser else "embedded")
        source, how = locate(name)
        if base := base_of_adapter(source):
            (source, of_base), adapter = locate(base), source
            how = {**of_base, "peft": adapter}
        super().__init__(pretrained=source, **{**how, **options})
        if chooser is None:
            self._chain_of: Callable[[str | None], Chain | str] = lambda text: chain or ""
            return
        layers, config = chooser.config.num_layers, chooser.config
        model = ColaForCausalLM(self.model, chooser.to(self.model.device), self.tokenizer)
        config.check_backbone(layers, of_files(source) or config.fingerprint, name)
        choose = lru_cache(None)(lambda text: model.choose(text, price))
        self._chain_of = lambda text: Chain.base(layers) if text is None else choose(text)

    def _create_model(self, *args: Any, **options: Any) -> None:
        """The harness's, but weights that are missing are not drawn at random."""
        plain: Any = self.AUTO_MODEL_CLASS
        self.AUTO_MODEL_CLASS: Any = _Whole(plain)
        try:
            super()._create_model(*args, **options)
        finally:
            self.AUTO_MODEL_CLASS = plain

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        console.print("perplexity: documents run through one chain, since a controller has no prompt of them to read")
        found: list[float] = super().loglikelihood_rolling(requests, disable_tqdm)
        return found

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        run = super()._loglikelihood_tokens
        return self._by_chain(
            requests, lambda one: one[0] and one[0][0], lambda some: run(some, disable_tqdm, override_bs)
        )

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        run = super().generate_until
        return self._by_chain(requests, lambda one: str(one.args[0]), lambda some: run(some, disable_tqdm))

    def _by_chain(
        self,
        requests: Sequence[Request],
        context: Callable[[Request], str | None],
        run: Callable[[list[Request]], list[Answer]],
    ) -> list[Answer]:
        """Run the requests of each chain together; answers in request order."""
        chains = [self._chain_of(context(request)) for request in requests]
        answers: dict[int, Answer] = {}
        for chain in dict.fromkeys(chains):
            places = [place for place, other in enumerate(chains) if other == chain]
            with apply_chain(self.model, chain):
                answers |= dict(zip(places, run([requests[place] for place in places]), strict=True))
        return [answers[place] for place in range(len(requests))]


class _Whole:
    """An Auto class that refuses a checkpoint without some of the model's weights."""

    def __init__(self, auto: Any) -> None:
        self._auto = auto

    def from_pretrained(self, name: str, **options: Any) -> Any:
        model, loaded = self._auto.from_pretrained(name, output_loading_info=True, **options)
        check_weights(name, loaded)
        return model


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
