"""A conversation in the terminal, with the chain of each answer beside it."""

from transformers import TextStreamer

from cola_learn.chains import Chain
from cola_learn.console import console
from cola_learn.errors import UserError
from cola_learn.infer.chooser import PLAIN_TEXT, Chooser, make_chooser, strip, write
from cola_learn.infer.infer_options import InferOptions


def converse(options: InferOptions) -> None:
    """Read messages from standard input and answer each, until it ends; answers go to standard output as they are
    written. The chain is chosen by the last message."""
    chooser = make_chooser(options)
    messages: list[dict[str, str]] = []
    if chooser.plain_text:
        console.print(PLAIN_TEXT, style="dim", soft_wrap=True)
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
