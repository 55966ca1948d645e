"""What the model reads of a question, for people to look at."""

from cola_learn import assets
from cola_learn.backbone.load import EMBEDDED
from cola_learn.cli import UserError, console
from cola_learn.label.options import LabelOptions
from cola_learn.tasks import Question, Sample, as_sample


def show_prompt(question: Question, options: LabelOptions) -> str:
    """Print the prompt of a question and what is scored behind it; returns the prompt. No weights are loaded.

    Raises:
        UserError: if the tokenizer cannot be had.
    """
    from transformers import AutoTokenizer

    source = str(assets.model_folder()) if options.backbone == EMBEDDED else options.backbone
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(f"--backbone {options.backbone} has no tokenizer to be had ({error})") from None
    sample: Sample = as_sample(question, options.template)
    text, behind = sample.contexts[0], sample.continuations
    gold = behind[question.gold]
    if sample.open:
        text = options.prompt.text(sample.prompt, tokenizer)
        behind = options.prompt.continuations(sample.continuations[0], str(tokenizer.eos_token))
    console.rule(question.key)
    print(text, flush=True)
    console.rule(
        f"up to {options.prompt.max_new_tokens} tokens are written from here"
        if options.reward == "generate"
        else "right if greedy decoding goes on with one of"
        if sample.open
        else f"options whose scores are compared; gold is {gold.strip()!r}"
    )
    if options.reward != "generate":
        print("\n".join(map(repr, behind)))
    return text
