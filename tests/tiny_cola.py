"""A tiny model with a controller that knows nothing and chooses different chains."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from cola_learn import Chain, ColaForCausalLM, Controller, ControllerConfig, SearchSpace, apply_chain
from cola_learn.backbone.load import fingerprint_of
from tests.architectures import tiny_model

CHAIN = "0 (1)x2 3"  # of four layers: one twice, one skipped
PROMPT = torch.tensor([[5, 17, 30, 8, 61, 12, 44]])
ROWS = torch.tensor([[0, 0, 5, 17, 30, 8], [9, 3, 33, 21, 12, 44], [0, 61, 61, 7, 9, 11]])
BATCH = {"input_ids": ROWS, "attention_mask": (ROWS > 0).long()}
NEW: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
TEMPLATE = "{% for turn in messages %}{{ turn.content }} {% endfor %}{% if tools %}w07 {% endif %}"


@dataclass
class Cola:
    """A model of four layers with a controller whose chains differ between prompts."""

    model: ColaForCausalLM
    folder: Path

    @property
    def plain(self) -> Any:
        return self.model.backbone

    def chains(self, ids: Tensor = PROMPT, mask: Tensor | None = None) -> list[Chain]:
        found: list[Chain] = self.model.choose_chains(ids, mask)
        return found

    def through(self, chain: Chain | str, call: str = "__call__", **options: Any) -> Any:
        """What the backbone does under a chain."""
        with torch.no_grad(), apply_chain(self.plain, chain):
            return getattr(self.plain, call)(**options)

    def alone(self, **options: Any) -> list[list[int]]:
        """What the backbone writes for each row of the batch through its own chain, alone."""
        chains = self.chains(**{"ids": ROWS, "mask": BATCH["attention_mask"]})
        assert len(set(chains)) > 1
        rows = [{name: value[row : row + 1] for name, value in BATCH.items()} for row in range(len(ROWS))]
        found = (self.through(one, "generate", **row, **NEW, **options) for one, row in zip(chains, rows, strict=True))
        return [text for each in found for text in each.tolist()]


def tiny_cola(folder: Path) -> Cola:
    """The backbone lies in ``folder/backbone``."""
    backbone = tiny_model("llama").eval()
    backbone.save_pretrained(folder / "backbone")
    words = PreTrainedTokenizerFast(tokenizer_object=_words(), pad_token="w00", eos_token="w02", unk_token="w01")
    words.chat_template = TEMPLATE
    words.save_pretrained(folder / "backbone")
    torch.manual_seed(0)
    name = str(folder / "backbone")
    named: dict[str, Any] = {"backbone": name, "fingerprint": fingerprint_of(name)}
    controller = Controller(ControllerConfig(4, 32, SearchSpace(2, 1), (0, 2), 16, 1, 2, 0.0, **named))
    nn.init.normal_(controller.bias, std=2.0)
    nn.init.normal_(controller.read.weight, std=1.0)
    model = ColaForCausalLM(AutoModelForCausalLM.from_pretrained(name), controller, words)
    return Cola(model, folder)


def _words() -> Tokenizer:
    found = Tokenizer(WordLevel({f"w{n:02}": n for n in range(97)}, unk_token="w01"))
    found.pre_tokenizer = Whitespace()
    return found


def text(ids: Tensor) -> str:
    return " ".join(f"w{n:02}" for n in ids.tolist())
