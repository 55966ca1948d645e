"""Prompts of open questions, and how answers are delimited."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cola_learn.backbone.tokens import chat_text
from cola_learn.errors import UserError
from cola_learn.tasks.answers import ENDS_WORD, MOST_SPELLINGS, boxed, spellings
from cola_learn.tasks.questions import Question

_PLACE = "{question}"


def in_template(questions: Sequence[Question], load_tokenizer: Callable[[], Any]) -> list[Question]:
    """Conversations among questions as texts in a model's chat template; all others as they are.

    Raises:
        UserError: if there are some, and the tokenizer, which is only loaded then, has no template or it refuses them.
    """
    if not any(question.chat for question in questions):
        return list(questions)
    tokenizer = load_tokenizer()
    if not tokenizer.chat_template:
        raise UserError(f"{questions[0].task} holds conversations, and the model has no chat template to write them in")
    return [
        replace(one, text=chat_text(tokenizer, json.loads(one.text)), chat=False) if one.chat else one
        for one in questions
    ]


@dataclass(frozen=True)
class Example:
    """A worked example.

    Attributes:
        question: the problem.
        answer: its short answer.
    """

    question: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    r"""How open questions are put; in these texts only ``{question}`` is special.

    Attributes:
        ask: the question and what to do with it.
        begin: how the answer begins; the model goes on from here.
        end: what closes an answer behind the words of ``begin``; "" is the model's own end of text.
        chat: write it as turns of the model's chat template where it has one; else as plain text.
        examples: answered questions that come before.
        max_new_tokens: most tokens that are written where answers are generated.
        template_options: of the model's chat template, such as {"enable_thinking": false}.
    """

    ask: str = "{question}\nPut the final answer in \\boxed{}."
    begin: str = "The final answer is \\boxed"
    end: str = ""
    chat: bool = True
    examples: tuple[Example, ...] = ()
    max_new_tokens: int = 32
    template_options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if _PLACE not in self.ask:
            raise ValueError(f"prompt.ask is {self.ask!r}; write {_PLACE} where the question goes")
        if self.max_new_tokens < 1:
            raise ValueError(f"prompt.max_new_tokens is {self.max_new_tokens}; give at least 1")
        if not self.end and not self.chat:
            raise ValueError('prompt.end is "", which closes no answer in plain text; give a line end, for example')

    @property
    def opens_box(self) -> bool:
        r"""Whether the beginning of the answer is a ``\boxed`` that waits for its braces."""
        return self.begin.endswith("\\boxed")

    def text(self, question: str, tokenizer: Any) -> str:
        """All that the model reads before it goes on with the answer."""
        if self.chat and tokenizer.chat_template:
            turns = []
            for example in self.examples:
                turns += [
                    {"role": "user", "content": self.ask.replace(_PLACE, example.question)},
                    {"role": "assistant", "content": self.begin + self.closed(example.answer)},
                ]
            turns.append({"role": "user", "content": self.ask.replace(_PLACE, question)})
            return chat_text(tokenizer, turns, self.template_options) + self.begin
        shown = [
            f"{self.ask.replace(_PLACE, example.question)}\n{self.begin}{self.closed(example.answer).rstrip()}\n\n"
            for example in self.examples
        ]
        return "".join(shown) + f"{self.ask.replace(_PLACE, question)}\n{self.begin}"

    def closed(self, answer: str) -> str:
        """The answer as it follows ``begin``, in the prompt's own form."""
        return f"{{{answer}}}" if self.opens_box else f" {answer}{self.end}" if self.begin else answer + self.end

    def continuations(self, answer: str, end_of_text: str) -> tuple[str, ...]:
        r"""Every way to write the answer behind ``begin``, closed: in the braces of its ``\boxed`` or, if it is one
        word, without them; where ``begin`` opens no box, plain, boxed and between dollars, up to ``end``.
        """
        written = spellings(answer)
        if self.opens_box:
            words = [text for text in written if not re.search(f"[{ENDS_WORD}]", text)]
            bare = [f" {text}{stop}{end_of_text}" for text in words for stop in ("", ".")]
            return (*(f"{{{text}}}" for text in written), *bare)[:MOST_SPELLINGS]
        space = " " if self.begin else ""
        forms = ("{}", "\\boxed{{{}}}", "${}$")
        close = self.end or end_of_text
        return tuple(f"{space}{form.format(text)}{close}" for text in written for form in forms)[:MOST_SPELLINGS]

    def finished(self, written: str) -> bool:
        """Whether a text that the model writes behind ``begin`` needs no more."""
        if self.opens_box:  # a word without braces may go on
            answer = boxed("\\boxed" + written)
            return answer is not None and answer == boxed(f"\\boxed{written}0")
        return bool(self.end) and self.end in written.lstrip()

    def answer_in(self, written: str) -> str:
        """The part of what the model wrote that is to be graded."""
        if self.opens_box:
            return boxed("\\boxed" + written) or ""
        return written.lstrip().split(self.end)[0] if self.end else written
