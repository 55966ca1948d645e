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
from cola_learn.backbone.load import load_model, load_tokenizer
from cola_learn.chains import Chain
from cola_learn.infer.model import ColaForCausalLM

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@register_model("cola")
class ColaLM(HFLM):
    """The harness's Hugging Face model, each request through the chain chosen for its context.

    Args:
        controller: folder or hub id of an exported controller.
        chain: run this chain for all requests instead.
        backbone: default the one that the controller was trained for, or ``embedded``.
        price: of depth.
        dtype: of the backbone.
        options: of ``lm_eval.models.huggingface.HFLM``: ``batch_size``, ``max_length``, ...

    Raises:
        ValueError: unless one of controller and chain is given.
    """

    def __init__(
        self,
        controller: str | None = None,
        chain: str | None = None,
        backbone: str | None = None,
        price: float | None = None,
        dtype: str = "auto",
        **options: Any,
    ) -> None:
        if (controller is None) == (chain is None):
            raise ValueError("give controller=FOLDER to have chains chosen, or chain=... to run one, one of them")
        if controller is not None:
            model = ColaForCausalLM.from_pretrained(controller, backbone, dtype=dtype)
            plain, tokenizer = model.backbone, model.tokenizer
            self._chain_of: Callable[[str], Chain | str] = lru_cache(None)(lambda text: model.choose(text, price))
        else:
            given = chain or ""
            name = backbone or "embedded"
            plain = load_model(name, dtype=dtype, trust_remote_code=False)
            tokenizer = load_tokenizer(name)
            self._chain_of = lambda text: given
        super().__init__(pretrained=plain, tokenizer=tokenizer, **options)

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        run = super()._loglikelihood_tokens
        return self._by_chain(requests, lambda one: one[0][0], lambda some: run(some, disable_tqdm, override_bs))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        run = super().generate_until
        return self._by_chain(requests, lambda one: str(one.args[0]), lambda some: run(some, disable_tqdm))

    def _by_chain(
        self,
        requests: Sequence[Request],
        context: Callable[[Request], str],
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


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
