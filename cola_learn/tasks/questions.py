"""A benchmark as data: questions with choices, short answers or long ones, written as prompts and texts to score."""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

Template = Literal["cloze", "letter"]
Metric = Literal["acc", "acc_norm", "pmi"]
Truncate = Literal["no", "left"]
Kind = Literal["choices", "open", "response"]
KINDS: dict[Kind, str] = {
    "choices": "questions with choices",
    "open": "open questions",
    "response": "prompts with responses",
}


@dataclass(frozen=True)
class Question:
    """A multiple-choice question, an open one that has a short answer, or a prompt with a given response.

    Attributes:
        task, split, id: where it comes from; together they are its name in every stored output.
        text: the question; with ``blank`` a sentence in which ``_`` stands for the choice.
        choices: at least two answers; of an open question the right one and a wrong one for the luck control; of a
            prompt the response alone.
        gold: index of the right one.
        prefix, suffix: what the prompt puts before and after the text.
        blank: whether the choices fill ``_`` in the text, so that the rest of the sentence is scored.
        open: whether the model has to come up with the answer, choices unseen.
        chat: whether the text is a conversation in JSON, which the model's chat template has yet to write.
        revision: commit of the dataset on the hub that it was read from; "" for all else.
    """

    task: str
    split: str
    id: str
    text: str
    choices: tuple[str, ...]
    gold: int
    prefix: str = "Question: "
    suffix: str = "\nAnswer:"
    blank: bool = False
    open: bool = False
    chat: bool = False
    revision: str = ""

    @property
    def key(self) -> str:
        return f"{self.task}/{self.split}/{self.id}"

    @property
    def kind(self) -> Kind:
        """What is asked for."""
        return "open" if self.open else "choices" if len(self.choices) > 1 else "response"

    @property
    def digest(self) -> str:
        """16 hex digits of what is asked and what is right; labels keep it, so that a changed question is noticed."""
        answers = self.choices[self.gold : self.gold + 1] if self.open else self.choices
        asked = [self.text, list(answers), self.gold, self.prefix, self.suffix, self.blank, self.open]
        return hashlib.sha256(json.dumps(asked).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def content(self) -> tuple[str, frozenset[str]]:
        """The text and the options, by which a question is known again under another name."""
        return self.text.strip(), frozenset(() if self.open else (choice.strip() for choice in self.choices))


@dataclass(frozen=True)
class Sample:
    """A question as the backbone sees it; it does not say which answer is right.

    Attributes:
        key: ``task/split/id``.
        prompt: what a policy may read.
        contexts: for each option the text before the scored part (the prompt, unless a blank is filled).
        continuations: for each option the text whose log-probability is its score; of an open question the bare
            answers.
        lengths: for each option the characters that ``acc_norm`` divides by.
        open: whether it is an open question, which a ``Prompt`` has yet to put.
    """

    key: str
    prompt: str
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    lengths: tuple[int, ...]
    open: bool = False

    def whole(self) -> list[str]:
        """Each context with its continuation."""
        return [one + other for one, other in zip(self.contexts, self.continuations, strict=True)]


def as_sample(question: Question, template: Template = "cloze") -> Sample:
    """Write a question as a prompt and continuations.

    ``cloze`` scores the text of every option; ``letter`` lists the options in the prompt and scores their
    letters. Open questions are left as they are.
    """
    options = tuple(str(choice) for choice in question.choices)
    if question.open:
        texts = (question.text,) * len(options)
        return Sample(question.key, question.text, texts, options, tuple(map(len, options)), open=True)
    if template == "letter":
        letters = [chr(ord("A") + index) for index in range(len(options))]
        listed = "".join(f"\n {letter}. {option}" for letter, option in zip(letters, options, strict=True))
        prompt = question.prefix + question.text + listed + (question.suffix or "\nAnswer:")
        continuations = tuple(f" {letter}" for letter in letters)
    elif question.blank:
        before, after = question.text.split("_", 1)
        return Sample(
            question.key,
            question.text,
            tuple(before + option for option in options),
            tuple(after for _ in options),
            tuple(len(after.strip()) for _ in options),
        )
    else:
        prompt = question.prefix + question.text + question.suffix
        space = "" if question.kind == "response" else " "  # a response follows as it stands
        continuations = tuple(space + option for option in options)
    contexts = tuple(prompt for _ in options)
    return Sample(question.key, prompt, contexts, continuations, tuple(len(option) for option in options))
