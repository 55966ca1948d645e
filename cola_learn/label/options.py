"""What a label run can be told."""

from dataclasses import dataclass, field
from pathlib import Path

from cola_learn.command import GROUP
from cola_learn.label.plan import Plan, Resources
from cola_learn.tasks import AnswersAs, Layout, Scoring
from cola_learn.tracking import Mode


@dataclass(frozen=True)
class LabelOptions:
    """Options of python -m cola_learn.label.

    Attributes:
        task: registry name (arc_easy, commonsense_qa, mmlu, ...), a file of questions (JSONL, JSON, CSV, TSV, Parquet,
            also compressed), a folder that datasets saved, or hub:ORG/NAME[:CONFIG].
        split: split of a named task; the embedded benchmarks have no train split, so label test.
        limit: label at most this many questions, drawn with the seed; default all.
        output: folder of the label store; an unfinished one there is resumed.
        backbone: embedded, a Hugging Face id such as Qwen/Qwen3-0.6B, or a folder.
        show_prompt: print the first question as the model reads it, with its options and which is gold, and end.
        columns: of a file, which column holds what where its names do not say: question=q,choices=opts,answer=key;
            also id, and context for a passage before the question. Columns of options are joined: choices=w+x+y+z.
        answers: of a file, what an answer is: an option's text, a label of the options' own, a letter from A, or a
            number from0 or from1. auto finds out, and refuses where two readings differ.
        open: the questions of a file are open: a short answer, no options.
        tracking: W&B offline, online or disabled; auto is online with an API key, else offline.
        plan: what is searched.
        scoring: how chains are scored.
        resources: where it runs.
    """

    task: str = "arc_easy"
    split: str = "test"
    limit: int | None = None
    output: Path = Path("runs/labels")
    backbone: str = "embedded"
    show_prompt: bool = False
    columns: str = ""
    answers: AnswersAs = "auto"
    open: bool = False
    tracking: Mode = "auto"
    plan: Plan = field(default_factory=Plan, metadata=GROUP)
    scoring: Scoring = field(default_factory=Scoring, metadata=GROUP)
    resources: Resources = field(default_factory=Resources, metadata=GROUP)

    @property
    def layout(self) -> Layout:
        """How a file is read."""
        return Layout(self.columns, self.answers, self.open)
