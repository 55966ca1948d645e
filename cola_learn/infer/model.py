"""A backbone with a controller in front: every prompt runs through a chain of its own."""

from dataclasses import dataclass
from pathlib import Path

from cola_learn.backbone import Backbone, Executor, load_backbone
from cola_learn.backbone.generate import generate
from cola_learn.backbone.load import Dtype
from cola_learn.chains import Chain
from cola_learn.tasks import OptionScores, Question, Scorer, as_sample
from cola_learn.train import Controller
from cola_learn.train.features import prompt_features


@dataclass(frozen=True)
class ColaForCausalLM:
    """A frozen causal LM whose chain of layers is chosen for every prompt.

    Attributes:
        backbone: the frozen model.
        controller: what chooses.
    """

    backbone: Backbone
    controller: Controller

    @classmethod
    def from_pretrained(
        cls, controller: Path | str, backbone: str | None = None, device: str = "auto", dtype: Dtype = "auto"
    ) -> "ColaForCausalLM":
        """Load an exported controller and the backbone it was trained for (or name that backbone's place).

        Raises:
            UserError: if either cannot be loaded or they do not belong together.
        """
        chooser = Controller.from_pretrained(controller)
        model = load_backbone(backbone or chooser.config.backbone, device, dtype)
        chooser.check_backbone(model.num_layers, model.fingerprint, model.name)
        return cls(model, chooser)

    def choose(self, prompt: str) -> Chain:
        """The chain for a prompt."""
        return self.controller.choose(prompt_features(self.backbone, [prompt], self._layers)[0])

    def alternatives(self, prompt: str, count: int = 5) -> list[tuple[Chain, float]]:
        """The most probable chains for a prompt with log-probabilities, best first."""
        return self.controller.write(prompt_features(self.backbone, [prompt], self._layers)[0], count)

    def generate(self, prompt: str, chain: Chain | None = None, max_new_tokens: int = 64) -> str:
        """Greedy continuation of a prompt.

        Args:
            prompt: plain text, or a chat already written in the model's template.
            chain: run this one instead of choosing.
            max_new_tokens: limit.
        """
        tokenizer = self.backbone.tokenizer
        tokens = tokenizer.encode(prompt, add_special_tokens=False)
        new = generate(self.backbone, tokens, chain or self.choose(prompt), max_new_tokens)
        return str(tokenizer.decode(new, skip_special_tokens=True)).strip()

    def chat(self, question: str) -> str:
        """A question in the model's chat template, or as ``Question: ... Answer:`` if it has none."""
        tokenizer = self.backbone.tokenizer
        if tokenizer.chat_template is None:
            return as_prompt(question)
        turns = [{"role": "user", "content": question}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def score(self, question: Question, chain: Chain) -> OptionScores:
        """Scores of a question's choices through a chain."""
        scorer = Scorer(Executor(self.backbone))
        sample = as_sample(question)
        scorer.open(sample)
        return scorer.score([(sample.key, chain)])[0]

    @property
    def _layers(self) -> tuple[int, ...]:
        return self.controller.config.feature_layers


def as_prompt(question: str) -> str:
    """A free question as the benchmarks write theirs, which is what controllers are trained to read."""
    return as_sample(Question("", "", "", question, ("", ""), 0)).prompt
