"""The stages as a user runs them, on the real model and real questions, and what they say to wrong input."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from huggingface_hub import ModelCard

from cola_learn import Chain, ColaForCausalLM, Controller, LabelStore
from cola_learn.errors import UserError
from examples.dashboard import SECTIONS, _section
from tests.test_tracking import read_back

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def label_arguments(folder: Path) -> list[str | Path]:
    return ["--limit", "8", "--search.simulations", "8", "--output", folder / "labels", "--tracking", "offline"]


def test_1_label(command: Command, folder: Path) -> None:
    code, said = command("cola_learn.label", "--config", "configs/label/demo.yaml", *label_arguments(folder))
    assert code == 0, said
    assert re.search(r"questions +8, base accuracy", said)
    assert f"python -m cola_learn.train --labels {folder / 'labels'} --output {folder / 'train'}" in said
    assert len(LabelStore.open(folder / "labels").read()) == 8
    logged = read_back(folder / "labels")
    assert {"found/base_accuracy", "chains_per_second"} <= logged["metrics"].keys()
    for drawn in ("found_so_far", "layers/skip_rate", "layers/extra_runs", "depth/shortest_good", "examples"):
        assert any(name.startswith(drawn) for name in logged["metrics"]), drawn
    assert "labels-arc_easy-embedded" in logged["outputs"]
    assert {"base_accuracy", "corrected", "mean_depth"} <= logged["summary"].keys()


def test_2_label_again_does_nothing_again(command: Command, folder: Path) -> None:
    arguments = [*label_arguments(folder)[:-1], "disabled"]
    before = LabelStore.open(folder / "labels").files()[0].stat().st_mtime_ns
    code, said = command("cola_learn.label", "--config", "configs/label/demo.yaml", *arguments)
    assert code == 0
    assert "8 of 8 questions are done already" in said
    assert LabelStore.open(folder / "labels").files()[0].stat().st_mtime_ns == before


def test_3_train(command: Command, folder: Path) -> None:
    code, said = command(
        "cola_learn.train",
        *("--config", "configs/train/small.yaml", "--labels", folder / "labels", "--output", folder / "train"),
        *("--trainer.max_epochs", "3", "--tracking", "offline"),
    )
    assert code == 0, said
    assert f"python -m cola_learn.export --checkpoint {folder / 'train' / 'best.ckpt'}" in said
    assert (folder / "train" / "config.yaml").exists()
    assert {"train/loss", "val/loss", "val/depth"} <= read_back(folder / "train")["metrics"].keys()


def test_4_training_goes_on_from_its_last_epoch(command: Command, folder: Path) -> None:
    code, said = command(
        "cola_learn.train",
        *("--config", "configs/train/small.yaml", "--labels", folder / "labels", "--output", folder / "train"),
        *("--trainer.max_epochs", "5", "--tracking", "offline"),
    )
    assert code == 0, said
    assert "going on from" in said


def test_4_training_again_does_nothing_again(command: Command, folder: Path) -> None:
    before = (folder / "train" / "last.ckpt").stat().st_mtime_ns
    code, said = command(
        "cola_learn.train",
        *("--config", "configs/train/small.yaml", "--labels", folder / "labels", "--output", folder / "train"),
        *("--trainer.max_epochs", "5", "--tracking", "disabled"),
    )
    assert code == 0, said
    assert "train: done already" in said
    assert (folder / "train" / "last.ckpt").stat().st_mtime_ns == before


def test_4_training_stops_in_good_order(folder: Path, tmp_path: Path) -> None:
    """A scheduler wants the machine back in the middle of an epoch; Ctrl-C goes the same way."""
    arguments = ["--config", "configs/train/small.yaml", "--labels", folder / "labels", "--output", tmp_path]
    more = ["--trainer.max_epochs", "100000", "--patience", "100000", "--tracking", "disabled"]
    training = subprocess.Popen(
        [sys.executable, "-m", "cola_learn.train", *map(str, arguments), *more], stderr=subprocess.PIPE, text=True
    )
    try:
        while not (tmp_path / "last.ckpt").exists():
            assert training.poll() is None, training.communicate()[1]
            time.sleep(0.1)
        training.terminate()
        _, said = training.communicate(timeout=60)
    finally:
        training.kill()
    assert training.returncode == 143, said
    assert said.endswith("interrupted; run the same command again to resume\n")


def test_5_export(command: Command, folder: Path) -> None:
    output = folder / "controller"
    code, said = command("cola_learn.export", "--checkpoint", folder / "train" / "best.ckpt", "--output", output)
    assert code == 0, said
    names = {path.name for path in output.iterdir()}
    assert names >= {"config.json", "model.safetensors", "README.md", "tokenizer.json", "generation_config.json"}
    assert "license: apache-2.0" in (output / "README.md").read_text()


def test_6_evaluate(command: Command, folder: Path) -> None:
    arguments = [
        *("--controllers", folder / "controller", "checkpoints/menu"),
        *("--labels", folder / "labels", "--output", folder / "evaluate"),
        *("--tasks", "arc_easy:validation", "sciq:validation", "--limit", "4", "--search.simulations", "4"),
        *("--static_candidates", "2", "--static_questions", "2", "--cost_questions", "1"),
    ]
    code, said = command("cola_learn.evaluate", *arguments, "--tracking", "offline")
    assert code == 0, said
    report = json.loads((folder / "evaluate" / "report.json").read_text())
    assert report["n"] == 8
    assert report["groups"]["task"] == {"arc_easy": 4, "sciq": 4}
    assert "sciq validation (no labels)" in report["setting"]["tasks"]
    assert report["setting"]["metric"] == "acc_norm of cloze scoring"
    policies = {row["policy"]: row for row in report["rows"]}
    mine = folder.name  # that its ``controller`` is in
    assert [name for name in policies if not re.fullmatch(r"static_\d+", name)] == [
        *("base", "static", mine, "menu"),
        *(f"{mine}_top5_oracle", "menu_top5_oracle", "search_oracle"),
    ]
    assert policies["search_oracle"]["accuracy"] >= policies["base"]["accuracy"]
    assert policies[f"{mine}_top5_oracle"]["accuracy"] >= policies[mine]["accuracy"]
    assert policies["base"]["depth"] == 30
    rows = pyarrow.parquet.read_table(folder / "evaluate" / "questions.parquet").to_pylist()
    base = {row["question"]: row["reward"] for row in rows if row["policy"] == "base"}
    for name, summary in policies.items():  # by plain loops over the questions
        own = {row["question"]: row for row in rows if row["policy"] == name}
        assert own.keys() == base.keys()
        assert sum(row["reward"] for row in own.values()) / 8 == summary["accuracy"]
        assert sum(row["reward"] - base[key] for key, row in own.items()) / 8 == pytest.approx(
            summary["to_base"]["mean"]
        )
        assert summary["won"] == sum(row["reward"] > base[key] for key, row in own.items())
        assert summary["lost"] == sum(row["reward"] < base[key] for key, row in own.items())
        sciq = [row["reward"] - base[key] for key, row in own.items() if key.startswith("sciq/")]
        assert sum(sciq) / 4 == pytest.approx(summary["by_group"]["task"]["sciq"])
        assert (summary["to_shuffled_in_task"] is not None) == (name in (mine, "menu"))
        corner = re.fullmatch(r"static_\d+", name)  # whose costs are not measured
        assert (summary["cost"] is not None) == (not summary["oracle"] and not corner)
    page = (folder / "evaluate" / "report.html").read_text()
    assert page.count("<svg") == 1
    assert "By difficulty" in page
    logged = read_back(folder / "evaluate")
    assert {"controller/accuracy", "menu/accuracy"} <= logged["summary"].keys()
    assert_lineage(folder, logged)
    assert_dashboard(folder, logged)
    code, said = command("cola_learn.evaluate", *arguments, "--tracking", "disabled")
    assert code == 0
    assert "evaluate: done already" in said
    config = folder / "controller" / "config.json"
    config.write_text(config.read_text() + " ")
    code, said = command("cola_learn.evaluate", *arguments, "--tracking", "disabled")
    assert code == 0
    assert "evaluate: done already" not in said  # it is not the controller that was evaluated
    assert said.count("4 of 4 questions are done already") == 2  # the searches are not made again


def assert_dashboard(folder: Path, evaluation: dict[str, Any]) -> None:
    """Every plot of the dashboard can be built, and is of something that was logged."""
    curves = read_back(folder / "labels", "label")["metrics"] | read_back(folder / "train", "train")["metrics"]
    for name, panels in SECTIONS.items():
        assert len(_section(name, panels).panels) == len(panels)
        for panel in panels:
            kept = curves if panel.x and not panel.scatter else evaluation["summary"]
            named = {*panel.y, *filter(None, [panel.x])} - {"trainer/global_step"}  # which W&B keeps with every step
            assert named <= kept.keys(), (name, str(panel))


def assert_lineage(folder: Path, evaluation: dict[str, Any]) -> None:
    """From the report back to the labels, each stage has read what another made."""
    label, train, export = (
        read_back(folder / where, stage)
        for where, stage in (("labels", "label"), ("train", "train"), ("train", "export"))
    )
    labels, checkpoint, controller = (
        f"{kind}-{name}-embedded"
        for kind, name in (("labels", "arc_easy"), ("training", "imitation"), ("controller", "imitation"))
    )
    assert any(name.startswith("evaluation-arc_easy-") for name in evaluation["outputs"])
    assert evaluation["inputs"][controller] == export["outputs"][controller]
    assert export["inputs"][checkpoint] == train["outputs"][checkpoint]
    assert train["inputs"][labels] == evaluation["inputs"][labels] == label["outputs"][labels]


def test_7_infer(command: Command, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ColaForCausalLM.from_pretrained(folder / "controller")
    chain = model.choose("Question: Which metal rusts?\nAnswer:")
    assert isinstance(chain, Chain)
    states = model._states(model._encoded("Question: Which metal rusts?\nAnswer:")[0])
    assert [chain] == [greedy for greedy, _ in model.controller.write(states, 1)]
    likely = model.controller.write(states, 5)  # a wider beam may drop the greedy chain
    logprobs = [each for _, each in likely]
    assert logprobs == sorted(logprobs, reverse=True)
    assert len({alternative for alternative, _ in likely}) == len(likely) == 5
    with pytest.raises(UserError, match="trained without a depth price"):  # it imitates, and learned nothing of prices
        model.choose("Question: Which metal rusts?\nAnswer:", price=0.1)
    for more in ([], ["--choices", "iron", "gold"]):
        code, said = command(
            "cola_learn.infer",
            "--controller",
            folder / "controller",
            "Which metal rusts?",
            "--decoding.max_new_tokens",
            "4",
            *more,
        )
        assert code == 0, said


def test_7_a_card_shows_the_evaluation(command: Command, folder: Path, tmp_path: Path) -> None:
    report = {row["policy"]: row for row in json.loads((folder / "evaluate" / "report.json").read_text())["rows"]}
    arguments = ("--report", folder / "evaluate", "--output", tmp_path / "shown")
    code, said = command("cola_learn.export", "--checkpoint", folder / "controller", *arguments)
    assert code == 0, said
    card = ModelCard.load(tmp_path / "shown" / "README.md")
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert card.data.eval_results is None  # of two benchmarks together
    table = [[cell.strip() for cell in line.split("|")] for line in card.text.splitlines() if line.startswith("| ")]
    [headings] = [row for row in table if "accuracy" in row]
    shown = {
        (row[headings.index("layers")], row[headings.index("accuracy")]) for row in table if len(row) == len(headings)
    }
    for name in ("base", "static", folder.name):
        assert (f"{report[name]['depth']:.1f}", f"{report[name]['accuracy']:.1%}") in shown
    weights = [Controller.from_pretrained(path).state_dict() for path in (folder / "controller", tmp_path / "shown")]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    other = folder / "shallow"
    _shallow_controller(other)
    code, said = command("cola_learn.export", "--checkpoint", other, *arguments)
    assert code == 2
    assert "--report is of controller" in said


def test_7_static_exports(command: Command, folder: Path, tmp_path: Path) -> None:
    """The best static chain of a report, with its result on the card, of a label store, and of a folder of them."""
    report = json.loads((folder / "evaluate" / "report.json").read_text())
    stores = tmp_path / "stores"
    shutil.copytree(folder / "labels", stores / "labels")
    for source, card in (
        (folder / "evaluate", f"On {report['n']} held-out questions"),
        (folder / "labels", "of the labelled questions"),
        (stores, "of the labelled questions"),
    ):
        output = tmp_path / "static" / source.name
        code, said = command("cola_learn.export", "--static", source, "--output", output)
        assert code == 0, said
        assert card in (output / "README.md").read_text()
    config = json.loads((tmp_path / "static" / "evaluate" / "config.json").read_text())
    static = [row for row in report["rows"] if row["policy"].startswith("static")]
    best = max(static, key=lambda row: (row["accuracy"], -row["depth"]))
    assert config["num_hidden_layers"] == Chain.parse(best["chain"], 30).depth == best["depth"]
    code, said = command("cola_learn.export", "--static", tmp_path / "static", "--output", tmp_path / "none")
    assert code == 2
    assert "is not a label store" in said


def test_8_stores_are_looked_after(command: Command, folder: Path, tmp_path: Path) -> None:
    """Inspect, verify, there and back through PoLar's form, guide a search with a store."""
    labels, plot, peers = folder / "labels", tmp_path / "heat.svg", "examples.peer_labels"
    code, said = command("cola_learn.label", "inspect", labels, "--plot", plot)
    assert code == 0, said
    assert "8, base accuracy" in said
    assert "chains good for most questions" in said
    assert plot.read_text().startswith("<svg")
    code, said = command("cola_learn.label", "verify", labels, "--chains", "all", "--limit", "4")
    assert code == 0, said
    assert "32 chains of 4 questions re-verified in isolation: 0 rewards differ" in said
    code, said = command(peers, "export", labels, "--output", tmp_path / "merged_mcts_samples.json.gz")
    assert code == 0, said
    arguments = ["import", tmp_path / "merged_mcts_samples.json.gz", "--output", tmp_path / "imported"]
    code, said = command(peers, *arguments)
    assert code == 0, said
    stored, imported = (
        {label.key: {trial.chain: trial.reward for trial in label.trials} for label in LabelStore.open(store)}
        for store in (labels, tmp_path / "imported")
    )
    assert imported == stored
    code, said = command("cola_learn.label", "merge", labels, labels, "--output", tmp_path / "merged")
    assert code == 0, said
    assert LabelStore.open(tmp_path / "merged").keys() == stored.keys()
    code, said = command(
        *("cola_learn.label", "--limit", "2", "--search.simulations", "4", "--search.prior", labels),
        *("--output", tmp_path / "guided", "--tracking", "disabled"),
    )
    assert code == 0, said


BAD = {
    "unknown task": (["label", "--tasks", "arc_hard:test"], "task arc_hard is not known"),
    "unknown split": (["label", "--tasks", "arc_easy:tset"], "split tset of arc_easy is not known"),
    "no such file": (["label", "--tasks", "{tmp}/no.jsonl"], "task {tmp}/no.jsonl is not there"),
    "bad row": (["label", "--tasks", "{tmp}/bad.jsonl"], "bad.jsonl row 2: answer 9 is none of the 2 options"),
    "empty file": (["label", "--tasks", "{tmp}/empty.jsonl"], "holds no questions"),
    "limit": (["label", "--limit", "0"], "limit 0 leaves no questions"),
    "not a number": (["label", "--limit", "many"], "limit"),
    "unknown option": (["label", "--simulations", "4"], "--simulations"),
    "bad setting": (["label", "--search.simulations", "0"], "--search.simulations is 0; give at least 1"),
    "no config": (["label", "--config", "{tmp}/no.yaml"], "no.yaml"),
    "backbone": (
        ["label", "--limit", "1", "--backbone", "{tmp}"],
        "backbone {tmp} has no tokenizer that can be loaded",
    ),
    "device": (["label", "--limit", "1", "--device", "cuda:9"], "device cuda:9 cannot be used"),
    "output": (["label", "--limit", "1", "--output", "{tmp}/empty.jsonl/x"], "--output {tmp}/empty.jsonl/x cannot be"),
    "other space": (
        [
            *("label", "--limit", "8", "--output", "{run}/labels", "--space.max_block", "2"),
            *("--search.simulations", "8"),
        ],
        "holds labels made with plan.space",
    ),
    "no workers": (["label", "--workers", "0"], "--workers is 0; give at least 1"),
    "ray option": (["label", "--ray_address", "auto"], "--ray_address is auto, but executor is local"),
    "one place": (["label", "--workers", "2", "--device", "cuda:1"], "--device is cuda:1, one place"),
    "prior": (["label", "--limit", "1", "--search.prior", "{tmp}"], "--search.prior {tmp} is not a label store"),
    "prior and beam": (
        ["label", "--search", "Beam", "--search.prior", "{tmp}"],
        "--search.prior is no setting of Beam",
    ),
    "no method": (["label", "--search", "Bean"], "--search: unknown search Bean; choose from "),
    "method of old": (
        ["label", "--search.method", "scan"],
        "--search.method is no setting of MCTS",
    ),
    "menu of none": (["label", "--search", "Menu", "--limit", "1"], "--search"),
    "inspect": (["label", "inspect", "{tmp}"], "store {tmp} is not a label store"),
    "nothing to join": (["label", "merge", "{tmp}"], "store {tmp} is not a label store"),
    "no labels": (["train", "--labels", "{tmp}"], "--labels {tmp} is not a label store"),
    "train option": (["train", "--labels", "{run}/labels", "--model.size", "4"], "size"),
    "linked option": (["train", "--data.limit", "3"], "--data.limit follows --limit"),
    "no checkpoint": (["export", "--checkpoint", "{tmp}/no.ckpt", "--output", "{tmp}/o"], "--checkpoint {tmp}/no.ckpt"),
    "no price": (
        ["export", "--checkpoint", "{run}/train/best.ckpt", "--output", "{tmp}/o", "--price", "0.1"],
        "--price 0.1: {run}/train/best.ckpt was trained without a depth price; remove --price",
    ),
    "no controller": (
        ["evaluate", "--controllers", "{tmp}", "--labels", "{run}/labels"],
        "is not an exported controller",
    ),
    "one controller twice": (
        ["evaluate", "--controllers", "{run}/controller", "{run}/controller", "--labels", "{run}/labels"],
        "{run}/controller is the name of another policy",
    ),
    "other menu": (
        ["evaluate", "--labels", "data/menu/held/sciq-validation", "--held", "data/menu_sums/held/sciq-validation"],
        "was run through another menu or model than --labels",
    ),
    "labelled questions": (
        ["evaluate", "--controllers", "{run}/controller", "--labels", "{run}/labels", "--tasks", "arc_easy:test"],
        "are among the labels",
    ),
    "other depth": (
        ["infer", "Why?", "--controller", "{tmp}/shallow"],
        "the controller is for 12 layers; backbone embedded has 30",
    ),
    "price of none": (
        ["infer", "Why?", "--controller", "{run}/controller", "--price", "0.1"],
        "--price 0.1: {run}/controller was trained without a depth price",
    ),
    "negative price": (
        ["infer", "Why?", "--controller", "checkpoints/menu", "--price", "-0.1"],
        "--price -0.1 is no price; give 0 or more",
    ),
    "no question": (["infer", " ", "--controller", "{run}/controller"], "the question is empty"),
    "no chain": (["infer", "Why?"], "give --controller to have a chain chosen, or --chain to run one"),
    "two chains": (["infer", "Why?", "--controller", "{tmp}", "--chain", "0-29"], "one of them"),
    "price of a chain": (["infer", "Why?", "--chain", "0-29", "--price", "1"], "--price 1 is for a controller"),
    "other layers": (["infer", "Why?", "--chain", "0-30"], "--chain: '0-30' in chain '0-30'"),
}


@pytest.mark.parametrize("case", BAD)
def test_9_wrong_input_is_one_clear_line_and_code_2(case: str, command: Command, folder: Path, tmp_path: Path) -> None:
    good = json.dumps({"question": "q", "choices": ["a", "b"], "answer": 0})
    (tmp_path / "bad.jsonl").write_text(good + "\n" + good.replace("0}", "9}"))
    (tmp_path / "empty.jsonl").write_text("")
    if case == "other depth":
        _shallow_controller(tmp_path / "shallow")
    arguments, message = BAD[case]
    places = {"tmp": str(tmp_path), "run": str(folder)}
    stage, *rest = [argument.format(**places) for argument in arguments]
    if stage == "label" and "--output" not in rest and "inspect" not in rest:
        rest += ["--output", str(tmp_path / "out")]
    before = sorted(tmp_path.rglob("*"))
    code, said = command(f"cola_learn.{stage}", *rest)
    assert code == 2, said
    assert message.format(**places) in said
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line == said.strip().splitlines()[-1]
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before and path != tmp_path / "out"]
    assert left == []


def _shallow_controller(folder: Path) -> None:
    from cola_learn import Controller, ControllerConfig

    Controller(ControllerConfig(12, 576, width=16, blocks=1, heads=1, backbone="embedded")).save_pretrained(folder)
