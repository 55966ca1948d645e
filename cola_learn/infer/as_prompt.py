"""Prompts for questions that users type."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cola_learn.backbone.tokens import chat_text
from cola_learn.tasks.questions import Question, as_sample


def as_prompt(question: str) -> str:
    """A free question as the benchmarks write theirs, which is what controllers are trained to read."""
    return as_sample(Question("", "", "", question, ("", ""), 0)).prompt


def as_chat(
    messages: str | Sequence[Mapping[str, str]], tokenizer: Any, options: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """A question or a conversation in a tokenizer's chat template, with options of that; a question as
    ``Question: ... Answer:`` if it has none.

    Raises:
        UserError: if the template does not take it.
    """
    if isinstance(messages, str):
        if tokenizer.chat_template is None:
            return as_prompt(messages)
        messages = [{"role": "user", "content": messages}]
    return chat_text(tokenizer, messages, options)
