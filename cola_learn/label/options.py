"""What a label run can be told."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cola_learn.backbone.load import Dtype
from cola_learn.backbone.tokens import Bos
from cola_learn.chains import SearchSpace
from cola_learn.errors import UserError
from cola_learn.label.driver import Plan
from cola_learn.label.records import Reward
from cola_learn.label.search import SearchSettings
from cola_learn.label.verify import Verify
from cola_learn.tasks import AnswersAs, Layout, Metric, Prompt, Question, Template, Truncate
from cola_learn.tracking import Mode


@dataclass(frozen=True)
class LabelOptions:
    """Options of python -m cola_learn.label.

    Attributes:
        task: registry name (arc_easy, commonsense_qa, mmlu, ...), a file of questions (JSONL, JSON, CSV, TSV, Parquet,
            also compressed), a folder that datasets saved, or hub:ORG/NAME[:CONFIG].
        split: split of a named task; the embedded benchmarks have no train split, so label test.
        columns: of a file, which column holds what where its names do not say: question=q,choices=opts,answer=key;
            also id, and context for a passage before the question. Columns of options are joined: choices=w+x+y+z.
        answers: of a file, what an answer is: an option's text, a label of the options' own, a letter from A, or a
            number from0 or from1. auto finds out, and refuses where two readings differ.
        open: the questions of a file are open: a short answer, no options.
        limit: label at most this many questions, drawn with the seed; default all.
        output: folder of the label store; an unfinished one there is resumed.
        backbone: embedded, a Hugging Face id such as Qwen/Qwen3-0.6B, or a folder.
        device: auto, cpu, cuda, cuda:1, or split (over all GPUs and the host).
        dtype: auto is bfloat16 where the hardware computes in it, else float32.
        bos: special tokens before every prompt: auto as the model's tokenizer writes them, yes its beginning-of-text
            token in any case, no none.
        truncate: left cuts the beginning of prompts that are longer than the model reads; no refuses them.
        template: score the text of every option (cloze) or the letters of listed options (letter).
        metric: sum of log-probabilities (acc) or that per character (acc_norm).
        reward: choices scores the options of multiple-choice questions; of open questions, verify asks in one pass
            whether greedy decoding would write the answer, and confirms what it finds good by generating; generate
            lets every chain write. auto takes choices or verify.
        prompt: how open questions are put; --show-prompt prints one and ends.
        search: method, budget and rules of each search.
        space: which edits a chain may have.
        luck: search for a wrong option too, at the same budget, to see how much of what is found is luck. The two
            searches share what they try, so it costs little.
        neighbours: how many chains one edit away from the shallowest good chain are tried at least, to see how robust
            it is; 0 leaves it to what the search came by.
        keep_scores: keep, for each chain, the score of every option, not only reward and margin.
        trees: questions searched at the same time; more fill a larger chip. The labels do not depend on it.
        cache_gib: memory for hidden states that chains share, in GiB and for each worker; by default a quarter of the
            host's free memory or half of the GPU's. The labels do not depend on it.
        verify: run good chains again, alone and with nothing kept, before a label is stored: auto runs all of them
            where results depend on what shares a batch (GPUs) and one a question elsewhere; good always all; off none.
        executor: local (this machine) or ray (a Ray cluster; pip install 'cola-learn[ray]').
        workers: replicas of the backbone that share the questions: processes here, one a GPU where there are any, or
            Ray actors. The labels do not depend on it.
        ray_address: of a running cluster (auto finds it); by default a local one is started.
        worker_cpus: CPUs that Ray reserves for an actor; by default an equal share.
        worker_gpus: GPUs that Ray reserves for an actor; by default one where the cluster has any.
        seed: of the draw of questions and of the searches.
        tracking: W&B offline, online or disabled; auto is online with an API key, else offline.
        show_prompt: print the first question as the model reads it, with its options and which is gold, and end.
    """

    task: str = "arc_easy"
    split: str = "test"
    columns: str = ""
    answers: AnswersAs = "auto"
    open: bool = False
    limit: int | None = None
    output: Path = Path("runs/labels")
    backbone: str = "embedded"
    device: str = "auto"
    dtype: Dtype = "auto"
    bos: Bos = "auto"
    truncate: Truncate = "no"
    template: Template = "cloze"
    metric: Metric = "acc"
    reward: Literal["auto"] | Reward = "auto"
    prompt: Prompt = field(default_factory=Prompt)
    search: SearchSettings = field(default_factory=SearchSettings)
    space: SearchSpace = field(default_factory=SearchSpace)
    luck: bool = True
    neighbours: int = 4
    keep_scores: bool = False
    trees: int = 32
    cache_gib: float | None = None
    verify: Verify = "auto"
    executor: Literal["local", "ray"] = "local"
    workers: int = 1
    ray_address: str | None = None
    worker_cpus: float | None = None
    worker_gpus: float | None = None
    seed: int = 0
    tracking: Mode = "auto"
    show_prompt: bool = False

    @property
    def layout(self) -> Layout:
        """How a file is read."""
        return Layout(self.columns, self.answers, self.open)

    @property
    def plan(self) -> Plan:
        """What the labels depend on."""
        return Plan(self.space, self.search, self.template, self.seed, self.luck, self.neighbours, self.keep_scores)

    def for_questions(self, questions: Sequence[Question]) -> "LabelOptions":
        """The options with the reward that these questions take.

        Raises:
            UserError: if that named by the options is not for such questions.
        """
        fitting: tuple[Reward, ...] = ("verify", "generate") if questions[0].open else ("choices",)
        reward: Reward | Literal["auto"] = fitting[0] if self.reward == "auto" else self.reward
        if reward not in fitting:
            kind = "open questions" if questions[0].open else "questions with choices"
            raise UserError(f"--reward {reward} is not for {kind} such as those of {self.task}; {' or '.join(fitting)}")
        return replace(self, reward=reward)

    def check(self) -> None:
        """Raises:
        UserError: for values that no run can have.
        """
        if self.trees < 1:
            raise UserError(f"--trees {self.trees} searches nothing; give at least 1")
        if self.workers < 1:
            raise UserError(f"--workers {self.workers} does nothing; give at least 1")
        if self.neighbours < 0:
            raise UserError(f"--neighbours {self.neighbours} is negative; give 0 or more")
        if self.cache_gib is not None and not 0 <= self.cache_gib < 2**20:
            raise UserError(f"--cache_gib {self.cache_gib} is no amount of memory; give 0 to keep nothing, or more")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed} is negative; give 0 or more")
        if self.executor == "local":
            for name in ("ray_address", "worker_cpus", "worker_gpus"):
                if getattr(self, name) is not None:
                    raise UserError(f"--{name} {getattr(self, name)} is for --executor ray, not local")
        if self.workers > 1 and self.device not in ("auto", "cpu", "cuda"):
            raise UserError(
                f"--device {self.device} is one place; with --workers {self.workers} give auto, cpu or cuda"
            )
