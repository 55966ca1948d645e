"""What programs do with a ``ColaForCausalLM`` or with a model under a chain: each works as with transformers' own model
or is refused by name. docs/habits.md lists them all."""

import copy
import pickle
import re
import threading
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    StoppingCriteriaList,
    TextIteratorStreamer,
    Trainer,
    TrainingArguments,
    pipeline,
)

from cola_learn import Chain, ColaForCausalLM, apply_chain
from cola_learn.errors import UserError
from tests.architectures import tiny_model
from tests.tiny_cola import BATCH, CHAIN, NEW, PROMPT, ROWS, Cola, text, tiny_cola

TABLE = Path(__file__).parents[2] / "docs" / "habits.md"


@pytest.fixture
def cola(tmp_path: Path) -> Cola:
    return tiny_cola(tmp_path)


def _stacked(value: Any) -> Tensor:
    return torch.stack((torch.zeros(()), *map(torch.sum, value))) if isinstance(value, tuple) else value


HABITS: dict[tuple[str, str, str], Callable[[Cola], None]] = {}


def habit(area: str, what: str, comes: str = "works") -> Callable[[Callable[[Cola], None]], None]:
    """Something that programs do, and what comes of it."""

    def add(check: Callable[[Cola], None]) -> None:
        assert (area, what, comes) not in HABITS
        HABITS[area, what, comes] = check

    return add


# --- generate


def compares(what: str, **options: Any) -> None:
    """One prompt, written as the backbone does through the chosen chain."""

    @habit("generate", what)
    def _(cola: Cola) -> None:
        [chain] = cola.chains()
        settings = {"input_ids": PROMPT, **NEW, **options}
        found = []
        for call in (cola.model.generate, lambda **own: cola.through(chain, "generate", **own)):
            torch.manual_seed(3)
            found.append(call(**copy.deepcopy(settings)))
        assert torch.equal(*found)


compares("greedy")
compares("sampling with a seed", do_sample=True, temperature=1.3, top_k=20, top_p=0.9)
compares("beam search", num_beams=3)
compares("several samples a prompt", do_sample=True, num_return_sequences=3)
compares("several beams a prompt", num_beams=3, num_return_sequences=2)
compares("repetition penalty, n-grams, bad words", repetition_penalty=1.4, no_repeat_ngram_size=2, bad_words_ids=[[7]])
compares("static cache", cache_implementation="static")
compares("no cache", use_cache=False)
compares("prefill in chunks", prefill_chunk_size=3)
compares("prompt lookup", prompt_lookup_num_tokens=2)
compares("early end by max_time", max_time=100.0)
compares("stopping criteria", stopping_criteria=StoppingCriteriaList([lambda ids, scores, **_: ids.shape[1] >= 9]))
compares("end of text token", eos_token_id=list(range(40)))
compares("generation config", generation_config=GenerationConfig(max_new_tokens=3, num_beams=2, pad_token_id=0))


@habit("generate", "chain=")
def _(cola: Cola) -> None:
    expected = cola.through(CHAIN, "generate", input_ids=PROMPT, **NEW)
    assert torch.equal(cola.model.generate(PROMPT, chain=CHAIN, **NEW), expected)
    assert torch.equal(cola.model.generate(PROMPT, chain=Chain.parse(CHAIN, 4), **NEW), expected)


@habit("generate", "a model that assists")
def _(cola: Cola) -> None:
    [chain] = cola.chains()
    found = cola.model.generate(PROMPT, assistant_model=tiny_model("llama").eval(), **NEW)
    assert torch.equal(found, cola.through(chain, "generate", input_ids=PROMPT, **NEW))


@habit("generate", "draft=True")
def _(cola: Cola) -> None:
    assert torch.equal(cola.model.generate(PROMPT, draft=True, **NEW), cola.plain.generate(PROMPT, **NEW))


@habit("generate", "streamer")
def _(cola: Cola) -> None:
    streamer = TextIteratorStreamer(cola.model.tokenizer, skip_prompt=True)
    thread = threading.Thread(target=cola.model.generate, kwargs={"inputs": PROMPT, "streamer": streamer, **NEW})
    thread.start()
    written = "".join(streamer).split()
    thread.join()
    assert written == text(cola.model.generate(PROMPT, **NEW)[0, PROMPT.shape[1] :]).split()


@habit("generate", "scores, hidden states and attentions of one prompt")
def _(cola: Cola) -> None:
    [chain] = cola.chains()
    asked = {"return_dict_in_generate": True, "output_scores": True, "output_hidden_states": True, **NEW}
    found = cola.model.generate(PROMPT, **asked)
    expected = cola.through(chain, "generate", input_ids=PROMPT, **asked)
    assert torch.equal(torch.stack(found.scores), torch.stack(expected.scores))
    for ours, own in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert len(ours) == chain.depth + 1
        assert all(map(torch.equal, ours, own))


@habit("generate", "output_hidden_states with several chains", "refused: output_hidden_states is not supported")
def _(cola: Cola) -> None:
    cola.model.generate(**BATCH, output_hidden_states=True, return_dict_in_generate=True, **NEW)


@habit("generate", "going on with the cache that came back")
def _(cola: Cola) -> None:
    first = cola.model.generate(PROMPT, chain=CHAIN, return_dict_in_generate=True, **NEW)
    more = cola.model.generate(first.sequences, chain=CHAIN, past_key_values=first.past_key_values, **NEW)
    assert torch.equal(more, cola.through(CHAIN, "generate", input_ids=PROMPT, **NEW | {"max_new_tokens": 10}))


@habit("generate", "going on with another chain's cache", "refused: past_key_values were written through chain")
def _(cola: Cola) -> None:
    first = cola.model.generate(PROMPT, chain=CHAIN, return_dict_in_generate=True, **NEW)
    cola.model.generate(first.sequences, chain="0-3", past_key_values=first.past_key_values, **NEW)


@habit("generate", "an empty cache")
def _(cola: Cola) -> None:
    cache = DynamicCache(config=cola.plain.config)
    [chain] = cola.chains()
    found = cola.model.generate(PROMPT, past_key_values=cache, **NEW)
    assert torch.equal(found, cola.through(chain, "generate", input_ids=PROMPT, **NEW))


@habit("generate", "inputs_embeds", "refused: inputs_embeds is not supported without chain=")
def _(cola: Cola) -> None:
    cola.model.generate(inputs_embeds=cola.plain.get_input_embeddings()(PROMPT), **NEW)


@habit("generate", "inputs_embeds with chain=")
def _(cola: Cola) -> None:
    embedded = cola.plain.get_input_embeddings()(PROMPT).detach()
    found = cola.model.generate(inputs_embeds=embedded, chain=CHAIN, **NEW)
    assert torch.equal(found, cola.through(CHAIN, "generate", inputs_embeds=embedded, **NEW))


@habit("generate", "a generation config that is replaced")
def _(cola: Cola) -> None:
    cola.model.generation_config = GenerationConfig(max_new_tokens=3, pad_token_id=0, eos_token_id=None)
    assert cola.model.generate(PROMPT).shape[1] == PROMPT.shape[1] + 3


@habit("generate", "a model name in place of a chain", "refused: cannot read 'gpt2' in chain")
def _(cola: Cola) -> None:
    cola.model.generate(PROMPT, chain="gpt2", **NEW)


# --- batches


@habit("batches", "rows of different chains, padded on the left")
def _(cola: Cola) -> None:
    assert cola.model.generate(**BATCH, **NEW).tolist() == cola.alone()


@habit("batches", "beams")
def _(cola: Cola) -> None:
    more = {"num_beams": 2, "num_return_sequences": 2}
    assert cola.model.generate(**BATCH, **NEW, **more).tolist() == cola.alone(**more)


@habit("batches", "static cache")
def _(cola: Cola) -> None:
    assert cola.model.generate(**BATCH, **NEW, cache_implementation="static").tolist() == cola.alone()


@habit("batches", "draft=True")
def _(cola: Cola) -> None:
    assert torch.equal(cola.model.generate(**BATCH, draft=True, **NEW), cola.plain.generate(**BATCH, **NEW))


@habit("batches", "return_dict_in_generate with beams", "refused: return_dict_in_generate is not supported")
def _(cola: Cola) -> None:
    cola.model.generate(**BATCH, num_beams=2, return_dict_in_generate=True, **NEW)


@habit("batches", "threads that call at once")
def _(cola: Cola) -> None:
    expected = cola.model.generate(**BATCH, **NEW)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(cola.model.generate(**BATCH, **NEW))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 4
    assert all(torch.equal(one, expected) for one in found)


compares(
    "logits processors and allowed tokens",
    logits_processor=[lambda ids, scores: scores.masked_fill(torch.arange(97) % 2 == 0, -1e9)],
    prefix_allowed_tokens_fn=lambda row, ids: [11, 12, 13, 40],
)


# --- forward: every argument of the backbone's

FORWARD: dict[str, Any] = {
    "input_ids": PROMPT,
    "attention_mask": torch.ones_like(PROMPT),
    "position_ids": torch.arange(7)[None] + 1,
    "labels": PROMPT,
    "logits_to_keep": 2,
}


def passes(what: str, **given: Any) -> None:
    @habit("forward", what)
    def _(cola: Cola) -> None:
        own = {"input_ids": PROMPT, **given}
        found, expected = cola.model(**own, chain=CHAIN), cola.through(CHAIN, **own, use_cache=False)
        if given.get("return_dict") is False:
            assert isinstance(found, tuple)
            assert torch.equal(found[0], expected[0])
            return
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(_stacked(found[name]), _stacked(value)), name
        assert torch.equal(cola.model(**own).logits, cola.through(cola.chains()[0], **own).logits)


passes("input_ids, attention_mask, position_ids", **FORWARD | {"labels": None, "logits_to_keep": 0})
passes("labels", labels=PROMPT)
passes("labels with num_items_in_batch", labels=PROMPT, num_items_in_batch=torch.tensor(3))
passes("logits_to_keep", logits_to_keep=2)
passes("return_dict=False", return_dict=False)
passes("output_hidden_states", output_hidden_states=True)
passes("output_attentions", output_attentions=True)


@habit("forward", "inputs_embeds with chain=")
def _(cola: Cola) -> None:
    embedded = cola.plain.get_input_embeddings()(PROMPT).detach()
    expected = cola.through(CHAIN, inputs_embeds=embedded).logits
    assert torch.equal(cola.model(inputs_embeds=embedded, chain=CHAIN).logits, expected)


@habit("forward", "inputs_embeds", "refused: inputs_embeds is not supported without chain=")
def _(cola: Cola) -> None:
    cola.model(inputs_embeds=cola.plain.get_input_embeddings()(PROMPT))


@habit("forward", "past_key_values", "refused: past_key_values is not supported by forward")
def _(cola: Cola) -> None:
    cola.model(PROMPT, past_key_values=DynamicCache())


@habit("forward", "use_cache=True", "refused: use_cache is not supported by forward")
def _(cola: Cola) -> None:
    cola.model(PROMPT, use_cache=True)


@habit("forward", "no argument of the backbone's is lost")
def _(cola: Cola) -> None:
    named = set(signature(cola.plain.forward).parameters) - {"kwargs"}
    assert named <= FORWARD.keys() | {"inputs_embeds", "past_key_values", "use_cache"}


@habit("forward", "logits and tokens that enter a loss")
def _(cola: Cola) -> None:
    head = nn.Linear(97, 1)
    head(cola.model(PROMPT).logits).mean().backward()
    assert head.weight.grad is not None
    embedding = nn.Embedding(97, 2)
    embedding(cola.model.generate(PROMPT, **NEW)).sum().backward()


# --- the model as a module and as a folder


@habit("model", "to, half, eval, train")
def _(cola: Cola) -> None:
    cola.model.to(torch.float64)
    assert cola.model(PROMPT).logits.dtype == torch.float64
    assert cola.model.train().backbone.training
    assert not cola.model.eval().controller.training


@habit("model", "configuration as programs read it")
def _(cola: Cola) -> None:
    ours, own = cola.model.config, cola.plain.config
    for name in ("num_hidden_layers", "hidden_size", "vocab_size", "eos_token_id", "num_attention_heads"):
        assert getattr(ours, name) == getattr(own, name) is not None
    assert cola.model.num_parameters() > cola.plain.num_parameters()
    assert cola.model.get_input_embeddings() is cola.plain.get_input_embeddings()


@habit("model", "deep copy and pickle")
def _(cola: Cola) -> None:
    expected = cola.model.generate(**BATCH, **NEW)
    for other in (copy.deepcopy(cola.model), pickle.loads(pickle.dumps(cola.model))):
        assert torch.equal(other.generate(**BATCH, **NEW), expected)


@habit("model", "hooks on layers")
def _(cola: Cola) -> None:
    seen: list[int] = []
    cola.plain.model.layers[1].register_forward_hook(lambda *_: seen.append(1))
    cola.model(PROMPT, chain=CHAIN)
    assert seen == [1, 1]


@habit("model", "PEFT adapters on the backbone")
def _(cola: Cola) -> None:
    plain = cola.model(PROMPT, chain=CHAIN).logits
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(cola.plain, lora).eval()
    found = cola.model(PROMPT, chain=CHAIN).logits
    assert not torch.allclose(found, plain)
    with torch.no_grad(), apply_chain(adapted, CHAIN) as applied:
        assert torch.equal(applied(PROMPT).logits, found)
    adapted.save_pretrained(cola.folder / "adapter")
    with adapted.disable_adapter():
        assert torch.equal(cola.model(PROMPT, chain=CHAIN).logits, plain)
    fresh = AutoModelForCausalLM.from_pretrained(cola.folder / "backbone").eval()
    again = PeftModel.from_pretrained(fresh, cola.folder / "adapter").eval()
    with torch.no_grad(), apply_chain(again, CHAIN) as applied:
        assert torch.equal(applied(PROMPT).logits, found)


@habit("model", "save_pretrained, from_pretrained and the Auto classes")
def _(cola: Cola) -> None:
    cola.model.generation_config.max_new_tokens = 4
    cola.model.save_pretrained(cola.folder / "mine", safe_serialization=True, state_dict=None)
    assert AutoConfig.from_pretrained(cola.folder / "mine").model_type == "cola"
    again, loading = AutoModelForCausalLM.from_pretrained(cola.folder / "mine", output_loading_info=True)
    assert not any(loading.values())
    assert torch.equal(again.generate(PROMPT), cola.model.generate(PROMPT))
    words = AutoTokenizer.from_pretrained(cola.folder / "mine")
    assert words(text(PROMPT[0]))["input_ids"] == PROMPT[0].tolist()


@habit("model", "save_pretrained(push_to_hub=True), offline", "refused: offline mode is enabled")
def _(cola: Cola) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        cola.model.save_pretrained(cola.folder / "mine", push_to_hub=True, repo_id="me/mine", token="hf_none")


@habit("model", "from_pretrained(subfolder=)")
def _(cola: Cola) -> None:
    cola.model.save_pretrained(cola.folder / "many" / "mine")
    again = ColaForCausalLM.from_pretrained(cola.folder / "many", subfolder="mine")
    assert torch.equal(again.generate(**BATCH, **NEW), cola.model.generate(**BATCH, **NEW))


@habit("model", "from_pretrained(local_files_only=True), not there", "refused: neither a folder here nor on")
def _(cola: Cola) -> None:
    ColaForCausalLM.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=cola.folder, token=False)


@habit("model", "pipeline of a folder")
def _(cola: Cola) -> None:
    cola.model.save_pretrained(cola.folder / "mine")
    ask = pipeline("text-generation", str(cola.folder / "mine"))
    settings = {"max_new_tokens": 5, "do_sample": False, "return_full_text": False}
    [found] = ask(text(PROMPT[0]), **settings)
    assert found["generated_text"].split() == cola.model.write(text(PROMPT[0]), max_new_tokens=5).split()


@habit("model", "Trainer.evaluate and Trainer.predict")
def _(cola: Cola) -> None:
    rows = Dataset.from_list([{"input_ids": row.tolist(), "labels": row.tolist()} for row in ROWS])
    settings = TrainingArguments(str(cola.folder / "out"), use_cpu=True, report_to="none", per_device_eval_batch_size=1)
    trainer = Trainer(cola.model, settings, eval_dataset=rows)
    losses = [float(cola.model(row[None], labels=row[None]).loss) for row in ROWS]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(sum(losses) / 3, abs=1e-4)
    assert trainer.predict(rows).predictions.shape == (3, 6, 97)


@habit("model", "chat with tools and a conversation")
def _(cola: Cola) -> None:
    turns = [
        {"role": "user", "content": "w05 w17"},
        {"role": "assistant", "content": "w03"},
        {"role": "user", "content": "w09"},
    ]
    plain = cola.model.write("w05 w17 w03 w09 ", chain="0-3", max_new_tokens=4)
    assert cola.model.chat(turns, max_new_tokens=4) == plain
    tools = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}]
    asked = cola.model.chat(turns, tools=tools, max_new_tokens=4)
    assert asked == cola.model.write("w05 w17 w03 w09 w07 ", chain="0-3", max_new_tokens=4)


@habit("model", "training through it", "refused: does not require grad")
def _(cola: Cola) -> None:
    cola.model(PROMPT, labels=PROMPT).loss.backward()


@pytest.mark.parametrize("key", HABITS, ids=lambda key: f"{key[0]}: {key[1]}")
def test_habits(key: tuple[str, str, str], cola: Cola) -> None:
    comes = key[2].removeprefix("refused: ")
    if comes == "works":
        HABITS[key](cola)
        return
    with pytest.raises((ValueError, RuntimeError, OSError, UserError), match=re.escape(comes)):
        HABITS[key](cola)


def test_the_table_lists_them() -> None:
    rows = [line.strip("| ").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    listed = {(row[0], row[1].replace("`", "")): row[2].replace("`", "") for row in rows}
    for area, what, comes in HABITS:
        assert listed.get((area, what), "").startswith(comes), (area, what, comes)
