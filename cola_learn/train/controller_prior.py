"""A controller as the prior of a search: the edits that it would write for each question."""

from collections import defaultdict
from math import exp, log

from torch import Tensor

from cola_learn.backbone.load import load_backbone
from cola_learn.chains import Edit
from cola_learn.console import console, next_command, progress_bar
from cola_learn.errors import UserError
from cola_learn.files import writable_folder
from cola_learn.label.prior import write_priors
from cola_learn.label.search import Prior
from cola_learn.tasks.load import load_task
from cola_learn.tasks.questions import Question, as_sample
from cola_learn.train.controller import Controller
from cola_learn.train.features import prompt_features
from cola_learn.train.options import PriorOptions


def controller_prior(controller: Controller, features: Tensor, beams: int = 32, temperature: float = 0.02) -> Prior:
    """Weight of every edit in the chains that the controller writes for a prompt ``[T, F, H]``: the sum of their
    probabilities; where it predicts gains instead, softmax(gain / temperature) over the chains.
    """
    written = controller.write(features, beams)
    if controller.rule.decides == "gain":  # utilities, in shares of a right answer, not log-probabilities
        best = max(utility for _, utility in written)
        total = sum(exp((utility - best) / temperature) for _, utility in written)
        written = [(chain, (utility - best) / temperature - log(total)) for chain, utility in written]
    weights: dict[Edit, float] = defaultdict(float)
    for chain, logprob in written:
        for edit in controller.config.space.decompose(chain):
            weights[edit] += exp(logprob)
    return dict(weights)


def run_prior(options: PriorOptions) -> dict[Question, Prior]:
    """Write the prior of every question.

    Raises:
        UserError: for options that cannot be met.
    """
    if options.temperature <= 0:
        raise UserError(f"--temperature {options.temperature} gives no weights; give more than 0")
    controller = Controller.from_pretrained(options.controller)
    questions = load_task(options.task, options.split, options.limit, options.seed)
    writable_folder(options.output.parent)
    config = controller.config
    backbone = load_backbone(config.backbone, options.device, options.dtype)
    controller.config.check_backbone(backbone.num_layers, backbone.fingerprint, backbone.name)
    backbone.write_special_tokens(config.special_tokens, "the controller")
    priors: dict[Question, Prior] = {}
    with progress_bar() as bar:
        task = bar.add_task("prior", total=len(questions), unit="questions", note="")
        for question in questions:
            prompt = as_sample(question, options.template).prompt
            [features] = prompt_features(backbone, [prompt], config.feature_layers)
            priors[question] = controller_prior(controller, features, options.beams, options.temperature)
            bar.advance(task)
    priors = {question: prior for question, prior in priors.items() if prior}
    write_priors(options.output, priors, config.num_layers)
    console.print(f"prior       {options.output} ({len(priors)} questions)", soft_wrap=True)
    next_command(
        [
            "python -m cola_learn.label",
            *("--task", options.task, "--split", options.split, "--search.prior", options.output),
        ]
    )
    return priors
