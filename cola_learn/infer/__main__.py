"""``python -m cola_learn.infer``: ask one question and see the chain that was chosen for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from cola_learn.backbone import Decoding
from cola_learn.backbone.load import Dtype
from cola_learn.chains import Chain
from cola_learn.command import Command, run_stage
from cola_learn.console import PlainConsole
from cola_learn.errors import UserError
from cola_learn.infer.model import ColaForCausalLM, as_prompt
from cola_learn.tasks import Question
from cola_learn.train import Controller


@dataclass(frozen=True)
class InferOptions:
    """Options of python -m cola_learn.infer.

    Attributes:
        question: what to ask.
        controller: folder of an exported controller.
        price: of depth: the gain in the probability of a right answer that all layers of the plain model are worth;
            more of it makes chains shorter. Default the controller's own.
        choices: answer by scoring these options, for example rust gold, instead of writing freely.
        backbone: default the one that the controller was trained for.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        decoding: how a freely written answer is written: most tokens, temperature (0 is greedy), stop texts ...
    """

    question: str
    controller: Path
    price: float | None = None
    choices: list[str] | None = None
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype = "auto"
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=48))


def run_infer(options: InferOptions) -> None:
    """Print the chosen chain and the backbone's answer through it, beside the plain model's.

    Raises:
        UserError: if the question is empty, there are too few choices, or the controller does not fit or heeds no
            price.
    """
    if not options.question.strip():
        raise UserError('the question is empty; give a text, for example "What do plants need to grow?"')
    if options.choices is not None and len(options.choices) < 2:
        raise UserError(f"--choices {options.choices} leaves nothing to choose; give at least two")
    if options.price is not None:
        Controller.from_pretrained(options.controller).config.check_price(options.price, options.controller)
    model = ColaForCausalLM.from_pretrained(options.controller, options.backbone, options.device, options.dtype)
    chosen = model.choose(as_prompt(options.question), options.price)
    console = PlainConsole()
    for name, chain in (("chosen", chosen), ("plain", Chain.base(model.backbone.num_layers))):
        line = Text.assemble((f"{name:7}", "bold"), f" {chain}  ", (f"({chain.depth} layers)", "dim"))
        console.print(line, soft_wrap=True)
        console.print(f"        {_answer(model, options, chain)}", soft_wrap=True)


def _answer(model: ColaForCausalLM, options: InferOptions, chain: Chain) -> str:
    if options.choices is None:
        return model.generate(model.chat(options.question), chain, options.decoding)
    question = Question("", "", "", options.question, tuple(options.choices), 0)
    scores = model.score(question, chain)
    return f"{options.choices[scores.choice]} ({scores.probability(scores.choice):.0%})"


INFER = Command(
    InferOptions,
    run_infer,
    "Ask a question: prints the chain that the controller chooses and the answer through it. Example: "
    'python -m cola_learn.infer --controller runs/demo/train/controller "What do plants need to grow?"',
    positional=("question",),
)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.infer", INFER, {}, arguments)


if __name__ == "__main__":
    main()
