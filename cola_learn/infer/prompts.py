"""Prompts for questions that users type."""

from collections.abc import Mapping, Sequence
from typing import Any

from cola_learn.tasks.questions import Question, as_sample


def as_prompt(question: str) -> str:
    """A free question as the benchmarks write theirs, which is what controllers are trained to read."""
    return as_sample(Question("", "", "", question, ("", ""), 0)).prompt


def as_chat(messages: str | Sequence[Mapping[str, str]], tokenizer: Any) -> str:
    """A question or a conversation in a tokenizer's chat template; a question as ``Question: ... Answer:`` if it has
    none."""
    if isinstance(messages, str):
        if tokenizer.chat_template is None:
            return as_prompt(messages)
        messages = [{"role": "user", "content": messages}]
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
