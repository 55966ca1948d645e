"""Shared fixtures: the embedded model in both precisions, and tiny random models for breadth."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.load import computing_type, load_backbone
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question

torch.manual_seed(0)
# Workers share the cores, a thread each (the Makefile); commands in processes of their own run as users run them.
os.environ.pop("OMP_NUM_THREADS", None)
# Where the processor does not compute in bfloat16, trying what the model is capable of in it takes a minute.
IN_BFLOAT16 = () if computing_type("auto", torch.device("cpu")) == torch.bfloat16 else (pytest.mark.slow,)
settings.register_profile("untimed", deadline=None)  # a slow machine is no failure
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def smollm32() -> Backbone:
    return load_backbone(dtype="float32")


@pytest.fixture(scope="session")
def smollm16() -> Backbone:
    return load_backbone(dtype="bfloat16")


@pytest.fixture(scope="session")
def smollm() -> Backbone:
    """In the precision that commands choose on this machine."""
    return load_backbone()


@pytest.fixture(scope="session")
def gemma32() -> Backbone:
    """The second real model, for tests marked slow: python -m cola_learn.assets gemma3-270m fetches it."""
    return load_backbone("gemma3-270m", dtype="float32")


@pytest.fixture(scope="session")
def arc() -> list[Question]:
    """100 ARC-Easy validation questions."""
    return load_task("arc_easy", "validation", limit=100)


class WordTokenizer:
    """Words to token ids by hashing; enough for models with random weights."""

    bos_token_id, eos_token_id, chat_template = 1, 2, None

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [3 + sum(map(ord, word)) % 90 for word in text.split()]


def tiny_llama(layers: int = 6, vocabulary: int = 97, positions: int = 128) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    return Backbone(tiny_llama(), WordTokenizer(), "tiny")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children hear Ctrl-C, even where the tests run in the background of a shell, whose processes do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run ``python -m MODULE ARGS`` in this process; returns the exit code and standard error."""
    import runpy
    import sys

    def run(module: str, *arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        try:
            runpy.run_module(module, run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err

    return run
