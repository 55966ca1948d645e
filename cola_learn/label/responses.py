"""Responses that the model writes itself, where prompts have none or these are not what is asked about."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from transformers import GenerationConfig

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.beginning import padded
from cola_learn.backbone.generate import check_prompts, end_tokens
from cola_learn.console import console, progress_bar
from cola_learn.errors import UserError
from cola_learn.label.plan import Responses
from cola_learn.label.store import LabelStore
from cola_learn.tasks.questions import Question, Template, as_sample

_BATCH = 16


def as_prompt(question: Question, template: Template) -> Question:
    """What a question puts to the model, as a prompt whose response is yet to be written."""
    text = as_sample(question, template).prompt
    return replace(question, text=text, choices=("",), gold=0, prefix="", suffix="", blank=False, open=False)


def write_responses(
    backbone: Backbone, store: LabelStore, prompts: Sequence[Question], responses: Responses, seed: int
) -> list[Question]:
    """Prompts with what the plain model writes behind them, each written once and kept in the store.

    Args:
        backbone: that writes.
        store: which may hold some already.
        prompts: of ``as_prompt``.
        responses: how they are written.
        seed: of what is drawn.

    Returns:
        Those with a response; the others, behind which the model ends its text at once, are left out.

    Raises:
        UserError: if a prompt is not what it was when its response was written, or is too long.
    """
    with store.writing():
        kept = store.kept()
        for prompt in prompts:
            if prompt.key in kept and kept[prompt.key].text != prompt.text:
                raise UserError(
                    f"--output {store.folder}: question {prompt.key} is no longer what it was when its response was "
                    "written; label the changed file into another folder"
                )
        tokens = {one.key: backbone.encoder.prompt(one.text) for one in prompts if one.key not in kept}
        check_prompts(backbone, list(tokens.values()), responses.response_tokens)
        missing = sorted((one for one in prompts if one.key in tokens), key=lambda one: len(tokens[one.key]))
        with progress_bar(shown=bool(missing)) as bar:
            task = bar.add_task("responses", total=len(missing), unit="prompts", note="")
            for start in range(0, len(missing), _BATCH):
                some = missing[start : start + _BATCH]
                texts = _write(backbone, [tokens[one.key] for one in some], responses, f"{seed}/{some[0].key}")
                written = {one.key: replace(one, choices=(text,)) for one, text in zip(some, texts, strict=True)}
                store.keep(written.values())
                kept |= written
                bar.advance(task, len(some))
    found = [kept[prompt.key] for prompt in prompts if kept[prompt.key].choices[0].strip()]
    if len(found) < len(prompts):
        console.print(f"{len(prompts) - len(found)} of {len(prompts)} prompts are left out: the model writes nothing")
    if not found:
        raise UserError(f"{store.manifest.source.task}: the model writes nothing behind any of the prompts")
    return found


@torch.no_grad()
def _write(backbone: Backbone, prompts: Sequence[Sequence[int]], responses: Responses, seed: str) -> list[str]:
    """What the model writes behind prompts, run together."""
    ids, mask = padded([torch.tensor(prompt, device=backbone.device) for prompt in prompts])
    drawn, ends = responses.temperature > 0, sorted(end_tokens(backbone))
    settings = GenerationConfig(
        max_new_tokens=responses.response_tokens,
        do_sample=drawn,
        eos_token_id=ends,
        pad_token_id=ends[0],
        **({"temperature": responses.temperature, "top_k": 0, "top_p": 1.0} if drawn else {}),
    )
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]))
        whole = backbone.model.generate(ids, attention_mask=mask, generation_config=settings)
    texts: list[str] = backbone.tokenizer.batch_decode(whole[:, ids.shape[1] :], skip_special_tokens=True)
    return texts
