"""Other wordings of a question, as templates."""

import re
from dataclasses import replace

from cola_learn.tasks.questions import Sample

QUESTION = "{question}"
REWORDED = (
    "Q: {question}\nA:",
    "Here is a question: {question}\nThe answer is:",
    "Please answer the following.\n{question}\nAnswer:",
)
_ASKED = re.compile(r"^Question: (?P<question>.*)\nAnswer:$", re.DOTALL)


def reworded(sample: Sample, template: str) -> Sample:
    """A question put in another wording. Of a text to complete, which is no question, what the wording says before the
    question goes before it.

    Args:
        sample: with choices.
        template: with ``{question}``.
    """
    before, _, after = template.partition(QUESTION)
    asked = _ASKED.match(sample.prompt)

    def put(text: str) -> str:
        return f"{before}{asked['question']}{after}" if asked else f"{before}{text}"

    return replace(sample, prompt=put(sample.prompt), contexts=tuple(map(put, sample.contexts)))
