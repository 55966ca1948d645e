"""Ask one question, and see the chain that was chosen for it."""

from pathlib import Path

from rich.text import Text

from cola_learn.backbone.generate import Generator
from cola_learn.backbone.load import load_backbone
from cola_learn.backbone.replay import Backbone
from cola_learn.chains import Chain
from cola_learn.console import PlainConsole
from cola_learn.errors import UserError
from cola_learn.infer.options import InferOptions
from cola_learn.infer.prompts import as_chat, as_prompt
from cola_learn.tasks.judges import make_judge, score_questions
from cola_learn.tasks.questions import Question
from cola_learn.tasks.scoring import Scoring
from cola_learn.train.controller import Controller
from cola_learn.train.features import prompt_features


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


def _chosen(options: InferOptions, folder: Path) -> tuple[str, Backbone, Chain]:
    controller = Controller.from_pretrained(folder)
    config = controller.config
    if options.price is not None:
        controller.rule.check_price(options.price, folder)
    backbone = load_backbone(options.backbone or config.backbone, options.device, options.dtype)
    config.check_backbone(backbone.num_layers, backbone.fingerprint, backbone.name)
    backbone.write_special_tokens(config.special_tokens, f"controller {folder}")
    [features] = prompt_features(backbone, [as_prompt(options.question)], config.feature_layers)
    return "chosen", backbone, controller.choose(features, options.price)


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
