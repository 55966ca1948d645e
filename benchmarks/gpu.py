"""What a GPU makes of everything that was made on CPUs: exactness, speed, and the commands. No network, no downloads.

    python -m benchmarks.gpu --output runs/gpu.json        # under seven minutes; `make gpu`
    python -m benchmarks.gpu --toy --output runs/toy.json  # the same at toy size, on any CPU

Each part runs in a process of its own, so that one that fails leaves the others, and its numbers are written as soon as
it has ended. Models have random weights and questions are random words. The first parts need torch, transformers and
accelerate, and jsonargparse; ``commands`` needs pyarrow too and ``training`` lightning. Wheels of these in ``wheels/``
are used where they are not installed.
"""

import argparse
import importlib.util
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WHEELS = Path("wheels")


def use_wheels(folder: Path = WHEELS) -> None:
    """Put what lies in ``wheels/`` and is not installed on the path, of this process and of those it starts."""
    unpacked = Path(tempfile.gettempdir()) / "cola-learn-wheels"
    for wheel in sorted(folder.glob("*.whl")):
        name = wheel.name.split("-")[0]
        if importlib.util.find_spec(name) is None and not (unpacked / name).exists():
            zipfile.ZipFile(wheel).extractall(unpacked)
    if unpacked.exists():
        sys.path.append(str(unpacked))
        os.environ["PYTHONPATH"] = os.pathsep.join([os.environ.get("PYTHONPATH", "."), str(unpacked)])


use_wheels()

from benchmarks.baselines import by_chain_group, per_chain, plain_model  # noqa: E402
from benchmarks.executor import ceiling_share, measured, search, wait  # noqa: E402
from benchmarks.flips import Flips, both_margins  # noqa: E402
from cola_learn.backbone.apply_chain import apply_chain  # noqa: E402
from cola_learn.backbone.backbone import Backbone  # noqa: E402
from cola_learn.backbone.executor import Executor  # noqa: E402
from cola_learn.backbone.generate import Generator  # noqa: E402
from cola_learn.backbone.rows import Row  # noqa: E402
from cola_learn.chains import Chain  # noqa: E402
from cola_learn.console import console  # noqa: E402
from cola_learn.tasks.questions import Question, as_sample  # noqa: E402

KINDS = (
    *("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "gemma2", "gemma3_text", "phi3", "olmo2", "gpt2"),
    *("bloom", "mamba"),
)
_WORDS = 2000


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        kinds: tiny architectures on which exactness is tried.
        dtypes: and in which precisions.
        flips: layers, hidden size, questions and simulations of the study of flips.
        executor: layers, hidden size and numbers of trees of the executor's table.
        commands: layers, hidden size, questions and simulations of the label runs.
        decoding: tokens written, and batch sizes.
        simulations: of each tree of the executor's table.
        pairs: (question, chain) pairs that each baseline evaluates.
        seconds: after which a part is given up.
    """

    kinds: tuple[str, ...]
    dtypes: tuple[str, ...]
    flips: tuple[int, int, int, int]
    executor: tuple[int, int, tuple[int, ...]]
    commands: tuple[int, int, int, int]
    decoding: tuple[int, tuple[int, ...]]
    simulations: int
    pairs: int
    seconds: float


FULL = Size(
    kinds=KINDS,
    dtypes=("float32", "bfloat16", "float16"),
    flips=(16, 1024, 40, 50),
    executor=(28, 3072, (1, 16, 64, 256)),
    commands=(16, 2048, 64, 16),
    decoding=(64, (1, 32)),
    simulations=8,
    pairs=64,
    seconds=110.0,
)
TOY = Size(
    kinds=("llama", "gemma3_text", "bloom"),
    dtypes=("float32", "bfloat16"),
    flips=(4, 64, 3, 8),
    executor=(4, 64, (1, 4)),
    commands=(4, 64, 6, 8),
    decoding=(6, (1, 3)),
    simulations=4,
    pairs=6,
    seconds=300.0,
)


@dataclass(frozen=True)
class Setting:
    """Where a part runs, at what size, and a folder for its files."""

    size: Size
    device: torch.device
    folder: Path


def exactness(setting: Setting) -> dict[str, Any]:
    """Of each architecture and precision: the largest error of the logits, relative to the largest logit, of the base
    chain replayed and of chains against the model with its list of layers rebuilt; and whether text written with slots
    is that written without any cache.
    """
    from tests.architectures import tiny_model

    found = {}
    for kind in setting.size.kinds:
        for name in setting.size.dtypes:
            model = tiny_model(kind).to(setting.device, getattr(torch, name))
            try:
                found[f"{kind}, {name}"] = _exactness(Backbone(model, word_tokenizer(), kind))
            except Exception as error:  # told, and the others go on
                found[f"{kind}, {name}"] = {"error": f"{type(error).__name__}: {error}"}
    return {"models": found}


def _exactness(backbone: Backbone) -> dict[str, Any]:
    number = backbone.num_layers
    last = number - 1
    chains = [tuple(range(number)), (0, *range(2, number)), (*range(number), last), (*range(number - 1), 1, last)]
    rows = [Row.plain(tokens[:length]) for tokens, length in zip(_tokens(backbone, 4, 24), (5, 9, 16, 24), strict=True)]
    executor = Executor(backbone)
    handles = [executor.open(row) for row in rows]
    pairs = [(row, Chain(layers, number)) for row in range(len(rows)) for layers in chains]
    hidden = executor.run([(handles[row], chain) for row, chain in pairs])
    errors = []
    for (row, chain), state in zip(pairs, hidden, strict=True):
        inputs = rows[row].model_inputs(backbone.device, backbone.dtype)
        with torch.inference_mode(), apply_chain(backbone.model, chain) as model:
            expected = model(**inputs, use_cache=False).logits[0]
        errors.append(_error(backbone.finish(state), expected))
    prompts = [list(row.tokens) for row in rows]
    texts = [
        Generator(backbone, cached=cached).generate(prompts, [pairs[1][1]] * len(prompts), 8)
        for cached in (None, False)
    ]
    return {
        "base": max(errors[:: len(chains)]),
        "chains": max(errors),
        "slots": Generator(backbone).cached,
        "same_text": sum(one == other for one, other in zip(*texts, strict=True)) / len(prompts),
    }


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max())


def flips(setting: Setting) -> dict[str, Any]:
    """Rewards in bfloat16 of a search against the same chains alone: how many flip."""
    layers, hidden, count, simulations = setting.size.flips
    backbone = random_llama(layers, hidden, setting.device, torch.bfloat16)
    pairs = [pair for _, own in both_margins(backbone, questions(count), simulations, 0) for pair in own]
    found = Flips.of(pairs)
    return {**asdict(found), "rate": found.rate}


def executor(setting: Setting) -> dict[str, Any]:
    """Evaluations a second by the number of trees, with the share of the matrix ceiling, and those of two other ways to
    evaluate chains on the same pairs.
    """
    layers, hidden, trees = setting.size.executor
    backbone = random_llama(layers, hidden, setting.device, torch.bfloat16)
    asked = questions(max(trees))
    search(backbone, asked[: trees[0]], 2, 1)  # warm
    found: dict[str, Any] = {"parameters": sum(each.numel() for each in backbone.model.parameters()), "trees": {}}
    for count in trees:
        ours = search(backbone, asked[:count], setting.size.simulations, 0)
        wait()
        found["trees"][count] = {
            "evaluations_per_second": ours.rate,
            "ceiling_share": ceiling_share(backbone, ours),
            "tokens_per_call": ours.scorer.executor.counters.tokens / ours.scorer.executor.counters.calls,
        }
    plain = plain_model(backbone)
    by_key = {question.key: question for question in asked}
    some = random.Random(0).sample(list(ours.answers), min(setting.size.pairs, len(ours.answers)))
    pairs = [(as_sample(by_key[key]), chain) for key, chain in some]
    for name, way in (("option_batch", per_chain), ("identical_program", by_chain_group)):
        seconds = measured(lambda way=way: way(plain, backbone.tokenizer, pairs), 1)  # type: ignore[misc]
        found[name] = {"evaluations_per_second": len(pairs) / seconds, "speedup": ours.rate * seconds / len(pairs)}
    return found


def commands(setting: Setting) -> dict[str, Any]:
    """Label runs: one undisturbed, one that is killed and resumed, one with two workers; the labels of each."""
    from cola_learn.label.store import LabelStore

    layers, hidden, count, simulations = setting.size.commands
    model, file = _on_disk(setting, layers, hidden, count)
    common = ["--backbone", model, "--tasks", file, "--tracking", "disabled", "--search.simulations", simulations]
    common += ["--device", setting.device.type, "--trees", max(2, count // 4)]
    seconds, stores, kept = {}, {}, 0
    for name, more in (("undisturbed", []), ("resumed", []), ("workers", ["--workers", 2])):
        output = setting.folder / name
        arguments = [*common, *more, "--output", output]
        if name == "resumed":
            process = _start("cola_learn.label", *arguments)
            deadline = time.monotonic() + setting.size.seconds
            while time.monotonic() < deadline and process.poll() is None and not _kept(output):
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kept = _kept(output)
        start = time.perf_counter()
        _command("cola_learn.label", *arguments)
        seconds[name] = time.perf_counter() - start
        stores[name] = {label.key: label for label in LabelStore.open(output)}
    whole = stores["undisturbed"]
    return {
        "questions": len(whole),
        "kept_when_killed": kept,
        "seconds": seconds,
        **{
            f"{name}_{what}": sum(same(own[key], label) for key, label in whole.items()) / len(whole)
            for name, own in stores.items()
            if name != "undisturbed"
            for what, same in (("equal", _equal), ("same_chains", _same_chains))
        },
    }


def _kept(store: Path) -> int:
    """How many labels are in a store, which another process may be writing."""
    from cola_learn.label.store import LabelStore

    return len(LabelStore.open(store).keys()) if (store / "manifest.json").exists() else 0


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)


def _same_chains(one: Any, other: Any) -> bool:
    return [(trial.chain, trial.reward) for trial in one.trials] == [(each.chain, each.reward) for each in other.trials]


def training(setting: Setting) -> dict[str, Any]:
    """A controller trained on the labels of a run, its export and an evaluation; the seconds of each."""
    layers, hidden, count, simulations = setting.size.commands
    model, file = _on_disk(setting, layers, hidden, count)
    labels, train, held = (setting.folder / name for name in ("labels", "train", "held"))
    on = "gpu" if setting.device.type == "cuda" else "cpu"
    steps: dict[str, list[Any]] = {
        "label": ["--backbone", model, "--tasks", file, "--search.simulations", simulations, "--output", labels],
        "train": ["--labels", labels, "--output", train, "--trainer.max_epochs", 2, "--trainer.accelerator", on],
        "export": ["--checkpoint", train / "best.ckpt", "--output", train / "controller"],
        "evaluate": ["--controllers", train / "controller", "--labels", labels, "--limit", 4, "--output", held],
    }
    steps["train"] += ["--trainer.precision", "bf16-mixed" if on == "gpu" else "32-true", "--model.width", 32]
    steps["evaluate"] += [
        "--search.simulations",
        simulations,
        "--cost_questions",
        2,
        "--tasks",
        _questions_file(setting),
    ]
    seconds = {}
    for name, arguments in steps.items():
        start = time.perf_counter()
        _command(f"cola_learn.{name}", *arguments, "--tracking", "disabled")
        seconds[name] = time.perf_counter() - start
    report = json.loads((held / "report.json").read_text())
    return {"seconds": seconds, "policies": sorted(row["policy"] for row in report["rows"])}


def decoding(setting: Setting) -> dict[str, Any]:
    """Seconds for greedy text through half, three quarters and all of the layers, over the plain model's."""
    layers, hidden, _, _ = setting.size.commands
    backbone = random_llama(layers, hidden, setting.device, torch.bfloat16)
    model = plain_model(backbone)
    tokens, batches = setting.size.decoding
    found: dict[str, Any] = {}
    for batch in batches:
        ids = torch.tensor(_tokens(backbone, batch, 64), device=setting.device)
        options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
        mask = torch.ones_like(ids)

        def write(ids: Tensor = ids, mask: Tensor = mask, options: Any = options) -> None:
            model.generate(ids, attention_mask=mask, **options)

        plain = measured(write, 2)
        found[f"batch {batch}"] = ratios = {"plain_tokens_per_second": batch * tokens / plain}
        for share in (0.5, 0.75, 1.0):
            depth = round(share * layers)
            with apply_chain(model, Chain((*range(depth - 1), layers - 1), layers)):
                ratios[f"{share:.0%}"] = measured(write, 2) / plain
    return found


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "exactness": exactness,
    "flips": flips,
    "executor": executor,
    "decoding": decoding,
    "commands": commands,
    "training": training,
}


def word_tokenizer() -> Any:
    """A tokenizer of a word a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(_WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", pad_token="w2", unk_token="w0")


def random_llama(layers: int, hidden: int, device: torch.device, dtype: torch.dtype) -> Backbone:
    """A Llama of random weights that reads words; with 28 layers and hidden size 3072 it has the 3B shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = max(2, hidden // 128)
    config = LlamaConfig(
        vocab_size=max(_WORDS, 16 * hidden),
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 3) if heads % 3 == 0 else max(1, heads // 2),
        head_dim=hidden // heads,
        max_position_embeddings=4096,
        eos_token_id=1,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, dtype=dtype)
    return Backbone(model, word_tokenizer(), f"llama-{layers}x{hidden}")


def questions(count: int) -> list[Question]:
    """Questions of random words, 20 to 120 of them, with four options of one to six."""
    draw = random.Random(0)

    def words(least: int, most: int) -> str:
        return " ".join(f"w{draw.randrange(3, _WORDS)}" for _ in range(draw.randint(least, most)))

    return [
        Question("words", "test", str(index), words(20, 120), tuple(words(1, 6) for _ in range(4)), draw.randrange(4))
        for index in range(count)
    ]


def _tokens(backbone: Backbone, rows: int, length: int) -> list[list[int]]:
    return [[int(token) for token in row] for row in backbone.probe_tokens(rows, length)]


def _on_disk(setting: Setting, layers: int, hidden: int, count: int) -> tuple[Path, Path]:
    """A model folder and a file of questions, as users have them."""
    folder = setting.folder / "model"
    if not folder.exists():
        backbone = random_llama(layers, hidden, setting.device, torch.bfloat16)
        plain_model(backbone).save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
    return folder, _questions_file(setting, "train", questions(count))


def _questions_file(setting: Setting, name: str = "held", asked: Sequence[Question] = ()) -> Path:
    file = setting.folder / f"{name}.jsonl"
    own = asked or [
        Question("", "", question.id, f"{question.text} w7", question.choices, question.gold)
        for question in questions(4)
    ]
    rows = [{"id": one.id, "question": one.text, "choices": list(one.choices), "gold": one.gold} for one in own]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _start(module: str, *arguments: object) -> "subprocess.Popen[bytes]":
    asked = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _command(module: str, *arguments: object) -> None:
    """``python -m MODULE``, in this process."""
    before, sys.argv = sys.argv, [module, *map(str, arguments)]
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"{module} ended with {ended.code}") from None
    finally:
        sys.argv = before


def card(device: torch.device) -> dict[str, Any]:
    """What ran this."""
    import transformers

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "device": name,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, or one; 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/gpu.json"), help="file for the numbers")
    parser.add_argument("--toy", action="store_true", help="at toy size")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS], metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--here", action="store_true", help="in this process, printing the numbers")
    options = parser.parse_args(arguments)
    size, device = TOY if options.toy else FULL, torch.device(options.device)
    if options.here:
        with tempfile.TemporaryDirectory() as folder:
            for name in options.parts:
                numbers = PARTS[name](Setting(size, device, Path(folder)))
                print(f"\n{json.dumps(numbers)}", flush=True)
        return 0
    found: dict[str, Any] = {"setting": {**card(device), "size": asdict(size)}, "parts": {}}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name in options.parts:
        start = time.perf_counter()
        asked = [sys.executable, "-m", "benchmarks.gpu", "--here", "--device", options.device, "--parts", name]
        try:
            ended = subprocess.run(
                [*asked, *(["--toy"] if options.toy else [])], capture_output=True, text=True, timeout=size.seconds
            )
            numbers = (
                json.loads(ended.stdout.splitlines()[-1]) if ended.returncode == 0 else {"error": ended.stderr[-3000:]}
            )
        except subprocess.TimeoutExpired:
            numbers = {"error": f"more than {size.seconds:.0f} s"}
        numbers["wall_seconds"] = time.perf_counter() - start
        found["parts"][name] = numbers
        options.output.write_text(json.dumps(found, indent=1) + "\n")
        outcome = "failed" if "error" in numbers else "done"
        console.print(f"{name:12}{outcome} in {numbers['wall_seconds']:.0f} s", soft_wrap=True)
    console.print(f"numbers     {options.output}", soft_wrap=True)
    return int(any("error" in numbers for numbers in found["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
