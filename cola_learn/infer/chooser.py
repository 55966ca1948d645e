"""A backbone with a controller or a fixed chain, and answers through the chosen chains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.generation.streamers import BaseStreamer

from cola_learn.backbone.apply_chain import apply_chains
from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.beginning import padded
from cola_learn.backbone.generate import check_prompts, end_tokens
from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.infer.apart import generate_drafted
from cola_learn.infer.as_prompt import as_chat, as_prompt
from cola_learn.infer.infer_options import InferOptions
from cola_learn.rewards.judges import make_judge, score_questions
from cola_learn.rewards.scoring import Scoring
from cola_learn.tasks.questions import Question
from cola_learn.train.controller import Controller
from cola_learn.train.features import prompt_features

_AWAY = {
    True: "free text runs the plain chain unless --price is given: the controller was trained on choices",
    False: "options are scored through the plain chain unless --price is given: the controller was trained on texts",
}


@dataclass(frozen=True)
class Chooser:
    """A backbone and what chooses its chains.

    Attributes:
        name: ``chosen`` by a controller, or ``given``.
        choose: the chain of each of some questions.
        away: whether to leave free text (True), or options (False), to the plain chain: what a controller learned of
            the one does not hold for the other. None leaves nothing to it.
    """

    name: str
    backbone: Backbone
    choose: Callable[[Sequence[str]], list[Chain]]
    away: bool | None = None

    def chains(self, questions: Sequence[str], free: bool) -> list[Chain]:
        """The chain of each question, to which ``free`` text is to be written, or options are to be scored."""
        if free is self.away:
            return [Chain.base(self.backbone.num_layers)] * len(questions)
        return self.choose(questions)

    def warning(self, free: bool) -> str | None:
        """What is to be said where the plain chain runs."""
        return _AWAY[free] if free is self.away else None


def make_chooser(options: InferOptions) -> Chooser:
    """The backbone, loaded, with the controller or the chain that was named.

    Raises:
        UserError: if the controller does not fit or takes no price, or the chain is not for the backbone.
    """
    if options.controller is not None:
        return _of_controller(options, options.controller)
    backbone = load_backbone(options.backbone or "embedded", options.device, options.dtype)
    try:
        chain = Chain.parse(options.chain or "", backbone.num_layers)
    except ValueError as error:
        raise UserError(f"--chain: {error}") from None
    return Chooser("given", backbone, lambda questions: [chain] * len(questions))


def _of_controller(options: InferOptions, folder: Path) -> Chooser:
    controller = Controller.from_pretrained(folder)
    config = controller.config
    if options.price is not None:
        controller.rule.check_price(options.price, folder)
    backbone = load_backbone(options.backbone or config.backbone, options.device, options.dtype)
    config.check_backbone(backbone.num_layers, backbone.fingerprint, backbone.name)
    backbone.write_special_tokens(config.special_tokens, f"controller {folder}")

    of_texts = config.kind == "response"

    def choose(questions: Sequence[str]) -> list[Chain]:
        asked = questions if of_texts else [as_prompt(question) for question in questions]
        states = prompt_features(backbone, asked, config.feature_layers)
        return [controller.choose(state, options.price) for state in states]

    return Chooser(
        "chosen", backbone, choose, away=not of_texts if options.price is None and not options.draft else None
    )


def write(
    backbone: Backbone,
    messages: Sequence[str | Sequence[Mapping[str, str]]],
    chains: Sequence[Chain],
    options: InferOptions,
    streamer: BaseStreamer | None = None,
) -> list[str]:
    """Answers to questions or conversations in the model's chat template, each through its chain, by transformers'
    ``generate``.

    Raises:
        UserError: if one is longer, with what it may write, than the model reads.
    """
    texts = [as_chat(each, backbone.tokenizer, options.template_options) for each in messages]
    rows = [torch.tensor(backbone.encoder.prompt(text), device=backbone.device) for text in texts]
    check_prompts(backbone, [row.tolist() for row in rows], options.decoding.max_new_tokens)
    ids, mask = padded(rows)
    settings = {"tokenizer": backbone.tokenizer, "pad_token_id": min(end_tokens(backbone))}
    settings |= options.decoding.settings()
    asked = {"input_ids": ids, "attention_mask": mask, "streamer": streamer, **settings}
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(options.decoding.seed)
        if options.draft:
            found = generate_drafted(backbone.model, chains, asked, backbone.model.generation_config)
        else:
            with apply_chains(backbone.model, chains) as model:
                found = model.generate(**asked)
    written = [backbone.tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True) for row in found]
    return [str(text).strip() for text in written]


def pick(
    backbone: Backbone, questions: Sequence[str], choices: Sequence[Sequence[str]], chains: Sequence[Chain]
) -> list[str]:
    """The most probable option of each question with its probability, such as ``rust (61%)``."""
    asked = [
        Question("", "", str(index), question, tuple(own), 0)
        for index, (question, own) in enumerate(zip(questions, choices, strict=True))
    ]
    scored = score_questions(make_judge(backbone, Scoring(metric="acc")), asked, lambda one: [chains[int(one.id)]])
    answers = []
    for question, scores in scored:
        [score] = scores.values()
        answers.append(f"{question.choices[score.choice]} ({score.probability(score.choice):.0%})")
    return answers


def strip(chain: Chain) -> str:
    """A character for each layer of the model: · skipped, ▪ run once, else how often it runs."""
    counts = [chain.layers.count(layer) for layer in range(chain.num_layers)]
    return "".join("·▪"[count] if count < 2 else str(min(count, 9)) for count in counts)
