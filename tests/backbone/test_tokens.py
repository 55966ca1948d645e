"""Token ids: what each kind of tokenizer writes, held against lm-evaluation-harness and the tokenizer itself."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cola_learn import assets
from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.tokens import PromptEncoder
from cola_learn.chains import Chain
from cola_learn.errors import UserError
from cola_learn.rewards.answer_judges import AnswerWriter
from cola_learn.rewards.option_scorer import OptionScorer
from cola_learn.rewards.prompts import Prompt
from cola_learn.tasks.questions import Question, as_sample
from cola_learn.train.controller_config import MAX_TOKENS

BOS, EOS = "<|im_start|>", "<|im_end|>"  # the embedded tokenizer has both and writes neither


def bytes_tokenizer(bos: bool = False, eos: bool = False) -> Any:
    """The embedded model's own, made to write special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(assets.model_folder())
    if bos or eos:
        ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (BOS, EOS)]
        single = " ".join([BOS] * bos + ["$A"] + [EOS] * eos)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


@cache  # training is not the same twice
def sentencepiece_tokenizer() -> Any:
    """Unigram pieces with ``▁`` for spaces and a beginning-of-text token, as Gemma and Mistral have them."""
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    inner.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    texts = [question_text + " Answer: cellular telephone airplane water sun" for question_text in _TEXTS]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>")
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


_TEXTS = [
    f"Question: Which of these {word} is seen at night in the sky?" for word in ("stars", "lamps", "birds", "cars")
]
KINDS: dict[str, Callable[[], Any]] = {
    "none": bytes_tokenizer,
    "bos": lambda: bytes_tokenizer(bos=True),
    "bos_eos": lambda: bytes_tokenizer(bos=True, eos=True),
    "sentencepiece": sentencepiece_tokenizer,
}
texts = st.text(st.characters(codec="utf-8", exclude_characters="<|"), max_size=40)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_lm_evaluation_harness(smollm32: Backbone, arc: list[Question], kind: str) -> None:
    """Question by question. The harness splits a tokenizer that writes an end-of-text token behind every text one token
    off, so that the end of text stands where the option's first token should; it is given one that does not."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    samples = [as_sample(question) for question in arc[: 3 if kind == "sentencepiece" else 12]]  # of short pieces
    requests = [
        Instance("loglikelihood", {}, (context, continuation), index)
        for sample in samples
        for index, (context, continuation) in enumerate(zip(sample.contexts, sample.continuations, strict=True))
    ]
    given_to_harness = bytes_tokenizer(bos=True) if kind == "bos_eos" else KINDS[kind]()
    harness = HFLM(pretrained=smollm32.model, tokenizer=given_to_harness, batch_size=8)
    harness.vocab_size = 49_152  # it leaves out what its tokenizer does not know, even where the model does
    theirs = iter([value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)])
    backbone = Backbone(smollm32.model, KINDS[kind](), "smollm")
    assert bool(backbone.encoder.special_tokens) == (kind != "none")
    scorer = OptionScorer(Executor(backbone))
    for sample in samples:
        scorer.open(sample)
    for scores in scorer.score([(sample.key, Chain.base(30)) for sample in samples]):
        expected = [next(theirs) for _ in scores.values]
        assert scores.values == pytest.approx(expected, abs=2e-3)
        assert scores.choice == max(range(len(expected)), key=expected.__getitem__)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(context=texts, continuation=texts)
def test_pairs_are_split_as_the_harness_splits_them(kind: str, context: str, continuation: str) -> None:
    tokenizer = _cached(kind)
    encoder = PromptEncoder(tokenizer)
    tokens, start = encoder.pair(context, continuation)
    whole = tokenizer.encode(context + continuation)
    if kind == "bos_eos":
        whole = whole[:-1]
    if tokenizer.encode(context.rstrip(), add_special_tokens=False) or (context.strip() and encoder.special_tokens):
        assert tokens == whole
        assert start == len(tokenizer.encode(context.rstrip())) - (kind == "bos_eos")
    else:  # the harness gives an empty context the beginning-of-text token; one that has no tokens it cannot score
        assert (tokens, start) == (
            [tokenizer.bos_token_id, *tokenizer.encode(context + continuation, add_special_tokens=False)],
            1,
        )


_MADE: dict[str, Any] = {}


def _cached(kind: str) -> Any:
    if kind not in _MADE:
        _MADE[kind] = KINDS[kind]()
    return _MADE[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_written_once(kind: str) -> None:
    tokenizer = _cached(kind)
    encoder = PromptEncoder(tokenizer)
    text = "Question: Why?"
    own = tokenizer.encode(text)
    expected = own[:-1] if kind == "bos_eos" else own
    assert encoder.prompt(text) == expected
    if encoder.special_tokens:
        assert encoder.prompt(encoder.special_tokens + text).count(tokenizer.bos_token_id) == 1
        assert tokenizer.eos_token_id not in encoder.prompt(text)


def test_a_chat_template_that_writes_bos_gets_no_second_one() -> None:
    tokenizer = bytes_tokenizer(bos=True)
    tokenizer.chat_template = "{{ bos_token }}{% for turn in messages %}{{ turn.content }}\n{% endfor %}"
    text = Prompt().text("What is 2 + 2?", tokenizer)
    assert text.startswith(BOS)
    tokens = PromptEncoder(tokenizer).prompt(text)
    assert tokens == tokenizer.encode(text, add_special_tokens=False)
    assert tokens.count(tokenizer.bos_token_id) == 1
    assert PromptEncoder(tokenizer, "no").prompt(text) == tokens[1:]


@pytest.mark.parametrize(
    ("kind", "bos", "special"),
    [
        *(("none", "auto", ""), ("none", "yes", BOS), ("none", "no", "")),
        *(("bos", "auto", BOS), ("bos", "yes", BOS), ("bos", "no", "")),
        *(("bos_eos", "auto", BOS), ("sentencepiece", "auto", "<s>"), ("sentencepiece", "no", "")),
    ],
)
def test_settings_and_what_is_recorded_of_them(kind: str, bos: Any, special: str) -> None:
    tokenizer = _cached(kind)
    encoder = PromptEncoder(tokenizer, bos)
    assert encoder.special_tokens == special
    assert (encoder.prompt("a")[:1] == [tokenizer.bos_token_id]) == bool(special)
    again = PromptEncoder.recorded(tokenizer, special, "labels")
    assert again.prompt("Question: a") == encoder.prompt("Question: a")


def test_what_a_tokenizer_cannot_write_is_refused() -> None:
    with pytest.raises(UserError, match="labels was made with '<s>' before every prompt, which this tokenizer"):
        PromptEncoder.recorded(_cached("bos"), "<s>", "labels")
    without = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(UserError, match="bos is yes, and the model's tokenizer has no beginning-of-text token"):
        PromptEncoder(without, "yes")


def test_a_prompt_is_cut_behind_its_special_tokens() -> None:
    tokenizer = _cached("bos")
    encoder = PromptEncoder(tokenizer)
    tokens = encoder.prompt("one two three four five six")
    cut = encoder.cut(tokens, 3)
    assert cut == [tokens[0], *tokens[4:]]
    assert encoder.cut(tokens, -MAX_TOKENS) == tokens


def test_the_answer_that_generation_reads_has_bos_too(smollm32: Backbone) -> None:
    backbone = Backbone(smollm32.model, _cached("bos"), "smollm")
    writer = AnswerWriter(backbone, Prompt(ask="{question}", begin="Answer:", end="\n", chat=False, max_new_tokens=4))
    writer.open(as_sample(Question("t", "s", "1", "What is 2 + 2?", ("4", "5"), 0, "", "", open=True)))
    assert writer._open["t/s/1"][1] == _cached("bos").encode("What is 2 + 2?\nAnswer:")
