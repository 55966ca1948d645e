"""Ask a question, or hold a conversation, and see the chain that was chosen for each answer."""

from rich.text import Text
from transformers import TextStreamer

from cola_learn.chains import Chain
from cola_learn.console import PlainConsole, console
from cola_learn.console import console as stderr
from cola_learn.errors import UserError
from cola_learn.infer.chooser import Chooser, make_chooser, pick, strip, write
from cola_learn.infer.infer_options import InferOptions
from cola_learn.infer.question_file import answer_file


def run_infer(options: InferOptions) -> None:
    """Answer a question, a file of them, or a conversation.

    Raises:
        UserError: if a question is empty, there are too few choices, the controller does not fit or was trained
            without a depth price, or the chain is not for the backbone.
    """
    if options.questions is not None:
        answer_file(options)
    elif options.chat:
        converse(options)
    else:
        ask(options, options.question or "")


def ask(options: InferOptions, question: str) -> None:
    """Print the chosen or given chain and the answer through it, beside the plain model's."""
    if not question.strip():
        raise UserError('the question is empty; give a text, for example "What do plants need to grow?"')
    if options.choices is not None and len(options.choices) < 2:
        raise UserError(f"--choices {options.choices} leaves nothing to choose; give at least two")
    chooser = make_chooser(options)
    backbone = chooser.backbone
    console, base = PlainConsole(), Chain.base(backbone.num_layers)
    if warning := chooser.warning(options.choices is None):
        stderr.print(warning, style="dim", soft_wrap=True)
        shown = [("plain", base)]
    else:
        [chain] = chooser.choose([question])
        shown = [(chooser.name, chain), ("plain", base)]
    for what, one in shown:
        if what == "plain" and len(shown) > 1 and one == shown[0][1]:
            console.print(Text.assemble(("plain  ", "bold"), " the same"))
            break
        line = Text.assemble((f"{what:7}", "bold"), f" {one}  ", (f"({one.depth} layers)", "dim"))
        console.print(line, soft_wrap=True)
        if options.choices is not None:
            [answer] = pick(backbone, [question], [options.choices], [one])
        else:
            [answer] = write(backbone, [question], [one], options)
        console.print(f"        {answer}", soft_wrap=True)


def converse(options: InferOptions) -> None:
    """Read messages from standard input and answer each, until it ends; answers go to standard output as they are
    written. The chain is chosen by the last message."""
    chooser = make_chooser(options)
    messages: list[dict[str, str]] = []
    if warning := chooser.warning(True):
        console.print(warning, style="dim", soft_wrap=True)
    console.print("/reset begins a new conversation, Ctrl-D ends it", style="dim")
    while (text := _next_message()) is not None:
        if text == "/reset":
            messages = []
        elif text:
            messages.append({"role": "user", "content": text})
            try:
                messages.append({"role": "assistant", "content": _answer(chooser, messages, options)})
            except UserError as error:  # longer than the model reads
                messages.pop()
                console.print(f"{error}; /reset begins a new conversation")


def _next_message() -> str | None:
    try:
        return input("\n> ").strip()
    except EOFError:
        return None


def _answer(chooser: Chooser, messages: list[dict[str, str]], options: InferOptions) -> str:
    backbone = chooser.backbone
    [chain] = chooser.chains([messages[-1]["content"]], free=True)
    written = []
    for one in dict.fromkeys((chain, Chain.base(backbone.num_layers)) if options.compare else (chain,)):
        console.print(f"{strip(one)}  {one} ({one.depth} layers)", style="dim", soft_wrap=True)
        streamer = TextStreamer(backbone.tokenizer, skip_prompt=True, skip_special_tokens=True)
        written += write(backbone, [messages], [one], options, streamer)
    return written[0]
