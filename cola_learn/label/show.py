"""The prompt of a question, printed before a run."""

from collections.abc import Sequence

from cola_learn.backbone.load import max_tokens_of
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.console import console, printable
from cola_learn.errors import UserError
from cola_learn.rewards.encoding import too_long
from cola_learn.rewards.reward import reward_of
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.questions import Question, as_sample

_SHOWN = 320  # characters of a prompt at the start of a run


def show_prompt(question: Question, scoring: Scoring, encoder: PromptEncoder, whole: bool = True) -> str:
    """Print a question as it was read: its prompt, its options and which one is gold. No weights are loaded.

    Args:
        question: the question.
        scoring: of the run.
        encoder: of the model.
        whole: the whole prompt, alone on standard output, with all that is scored behind it; else the end of it.

    Returns:
        The prompt.
    """
    text, behind, gold, title, _ = reward_of(scoring.reward).asked(
        question, scoring.template, scoring.prompt, encoder.tokenizer
    )
    marks = [" <- gold" if index == gold else "" for index in range(len(behind))]
    if not text.startswith(encoder.special_tokens):
        text = encoder.special_tokens + text
    shown = text if whole or len(text) <= _SHOWN else f"... {text[-_SHOWN:]}"
    console.rule(f"first question as it was read: {question.key}")
    if whole:
        print(printable(shown), flush=True)
    else:
        console.print(shown, soft_wrap=True)
    console.print(title, style="dim", soft_wrap=True)
    for continuation, mark in zip(behind, marks, strict=False):
        line = f"  {continuation!r}{mark}"
        if whole:
            print(printable(line), flush=True)
        else:
            console.print(line if len(line) < 200 else f"{line[:190]} ...{mark}", soft_wrap=True)
    console.rule()
    return text


def check_lengths(questions: Sequence[Question], scoring: Scoring, encoder: PromptEncoder, backbone: str) -> int:
    """Find the questions that are longer than the model reads, before anything is run; returns how many will be cut.

    Raises:
        UserError: naming the first, unless they are to be cut.
    """
    most = max_tokens_of(backbone)
    reward, long = reward_of(scoring.reward), list[tuple[str, int]]()
    for question in questions:
        asked = reward.asked(question, scoring.template, scoring.prompt, encoder.tokenizer)
        texts = [asked.text] if asked.writes else as_sample(question, scoring.template).whole()
        longest = max(texts, key=len)
        if len(longest.encode()) + asked.writes + 8 <= most:  # no token is shorter than a byte
            continue
        tokens = len(encoder.prompt(longest)) + (asked.writes or -1)
        if tokens > most:
            long.append((question.key, tokens))
    if long and scoring.truncate == "no":
        others = f" ({len(long) - 1} more are too long)" if len(long) > 1 else ""
        raise UserError(too_long(*long[0], most) + others)
    if long:
        console.print(
            f"{len(long)} of {len(questions)} prompts are longer than the {most} tokens that the model reads; their "
            "beginnings are cut"
        )
    return len(long)
