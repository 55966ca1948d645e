"""``python -m cola_learn.infer``: ask one question and see the chain that was chosen for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from cola_learn.backbone import Backbone, Decoding, Generator, load_backbone
from cola_learn.backbone.load import Dtype
from cola_learn.chains import Chain
from cola_learn.command import Command, run_stage
from cola_learn.console import PlainConsole
from cola_learn.errors import UserError
from cola_learn.infer.model import ColaForCausalLM, as_chat, as_prompt
from cola_learn.tasks import Question, Scoring, make_judge, score_questions
from cola_learn.train import Controller


@dataclass(frozen=True)
class InferOptions:
    """Options of python -m cola_learn.infer.

    Attributes:
        question: what to ask.
        controller: folder of an exported controller.
        chain: run this chain instead of one that a controller chooses, such as "0-17 20-29".
        price: of depth: the gain in the probability of a right answer that all layers of the plain model are worth;
            more of it makes chains shorter. Default the controller's own.
        choices: answer by scoring these options, for example rust gold, instead of writing freely.
        backbone: default the one that the controller was trained for, or embedded.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        decoding: how a freely written answer is written: most tokens, temperature (0 is greedy), stop texts ...
    """

    question: str
    controller: Path | None = None
    chain: str | None = None
    price: float | None = None
    choices: list[str] | None = None
    backbone: str | None = None
    device: str = "auto"
    dtype: Dtype = "auto"
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=48))

    def __post_init__(self) -> None:
        if (self.controller is None) == (self.chain is None):
            raise ValueError("give --controller to have a chain chosen, or --chain to run one, one of them")
        if self.chain is not None and self.price is not None:
            raise ValueError(f"--price {self.price:g} is for a controller; --chain chooses nothing")


def run_infer(options: InferOptions) -> None:
    """Print the chosen or given chain and the backbone's answer through it, beside the plain model's.

    Raises:
        UserError: if the question is empty, there are too few choices, the controller does not fit or was trained
            without a depth price, or the chain is not for the backbone.
    """
    if not options.question.strip():
        raise UserError('the question is empty; give a text, for example "What do plants need to grow?"')
    if options.choices is not None and len(options.choices) < 2:
        raise UserError(f"--choices {options.choices} leaves nothing to choose; give at least two")
    name, backbone, chain = _given(options) if options.controller is None else _chosen(options, options.controller)
    console = PlainConsole()
    for what, one in ((name, chain), ("plain", Chain.base(backbone.num_layers))):
        line = Text.assemble((f"{what:7}", "bold"), f" {one}  ", (f"({one.depth} layers)", "dim"))
        console.print(line, soft_wrap=True)
        console.print(f"        {_answer(backbone, options, one)}", soft_wrap=True)


def _chosen(options: InferOptions, controller: Path) -> tuple[str, Backbone, Chain]:
    if options.price is not None:
        Controller.from_pretrained(controller).rule.check_price(options.price, controller)
    model = ColaForCausalLM.from_pretrained(controller, options.backbone, options.device, options.dtype)
    return "chosen", model.backbone, model.choose(as_prompt(options.question), options.price)


def _given(options: InferOptions) -> tuple[str, Backbone, Chain]:
    backbone = load_backbone(options.backbone or "embedded", options.device, options.dtype)
    try:
        return "given", backbone, Chain.parse(options.chain or "", backbone.num_layers)
    except ValueError as error:
        raise UserError(f"--chain: {error}") from None


def _answer(backbone: Backbone, options: InferOptions, chain: Chain) -> str:
    if options.choices is None:
        prompt = backbone.encoder.prompt(as_chat(options.question, backbone.tokenizer))
        [written] = Generator(backbone).generate([prompt], [chain], options.decoding)
        return str(backbone.tokenizer.decode(written, skip_special_tokens=True)).strip()
    question = Question("", "", "", options.question, tuple(options.choices), 0)
    [(_, scores)] = score_questions(make_judge(backbone, Scoring()), [question], [chain])
    answer = scores[chain]
    return f"{options.choices[answer.choice]} ({answer.probability(answer.choice):.0%})"


INFER = Command(
    InferOptions,
    run_infer,
    "Ask a question: prints the chain that the controller chooses, or the one given, and the answer through it, beside "
    "the plain model's. Example: "
    'python -m cola_learn.infer --controller runs/demo/train/controller "What do plants need to grow?"',
    positional=("question",),
)


def main(arguments: Sequence[str] | None = None) -> None:
    run_stage("cola_learn.infer", INFER, {}, arguments)


if __name__ == "__main__":
    main()
