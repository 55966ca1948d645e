"""The stages on questions with short answers instead of choices, as a user runs them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cola_learn import LabelStore, as_sample, assets, load_task
from cola_learn.rewards.prompts import Prompt
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.questions import Question

Command = Callable[..., tuple[int, str]]
LABELLED, HELD_OUT = 5, 4
CONFIG = ("--config", "configs/label/math_few_shot.yaml", "--tracking", "disabled", "--prompt.max_new_tokens", "12")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two files of sums to label and to hold out."""
    folder = tmp_path_factory.mktemp("open")
    for name, split, count in (("mine", "test", LABELLED), ("held_out", "validation", HELD_OUT)):
        rows = [
            {"question": q.text, "answer": q.choices[0]} for q in load_task("examples.sums.chain_sum_1", split, count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("reward", ["verify", pytest.param("generate", marks=pytest.mark.slow)])
def test_1_label_and_verify(command: Command, folder: Path, reward: str) -> None:
    code, said = command(
        "cola_learn.label",
        *(*CONFIG, "--open", "--tasks", folder / "mine.jsonl", "--reward", reward),
        *("--search.simulations", "4", "--neighbours", "0", "--output", folder / reward),
    )
    assert code == 0, said
    store = LabelStore.open(folder / reward)
    assert store.manifest.scoring.reward == reward
    assert store.manifest.scoring.prompt.begin == "Answer:"
    labels = store.read()
    assert len(labels) == LABELLED
    assert 0 < sum(label.base.reward for label in labels) < LABELLED
    assert all(label.luck is None or label.luck.option == 1 for label in labels)


def test_2_what_is_stored_as_good_is_written_again(command: Command, folder: Path) -> None:
    code, said = command("cola_learn.label", "verify", folder / "verify", "--chains", "good")
    assert code == 0, said
    assert "0 rewards differ" in said


def test_2_another_prompt_does_not_go_into_the_same_store(command: Command, folder: Path) -> None:
    code, said = command(
        "cola_learn.label",
        *(*CONFIG, "--open", "--tasks", folder / "mine.jsonl", "--output", folder / "verify"),
        *("--search.simulations", "4", "--neighbours", "0", "--prompt.begin", "So it is"),
    )
    assert code == 2
    assert "holds labels made with scoring.prompt" in said


def test_3_train_export_evaluate(command: Command, folder: Path) -> None:
    labels, train, controller = folder / "verify", folder / "train", folder / "controller"
    stages: list[tuple[str | Path, ...]] = [
        (
            *("cola_learn.train", "--config", "configs/train/small.yaml", "--labels", labels),
            *("--output", train, "--trainer.max_epochs", "2", "--tracking", "disabled"),
        ),
        ("cola_learn.export", "--checkpoint", train / "best.ckpt", "--output", controller),
        (
            *("cola_learn.evaluate", "--controllers", controller, "--labels", labels, "--tracking", "disabled"),
            *("--tasks", folder / "held_out.jsonl", "--output", folder / "evaluate", "--search.simulations", "2"),
            *("--dtype", "float32", "--static_candidates", "2", "--static_questions", "2", "--cost_questions", "1"),
        ),
    ]
    for stage, *arguments in stages:
        code, said = command(str(stage), *arguments)
        assert code == 0, said
    report = json.loads((folder / "evaluate" / "report.json").read_text())
    assert report["n"] == HELD_OUT
    rows = pyarrow.parquet.read_table(folder / "evaluate" / "questions.parquet").to_pylist()
    questions = load_task(str(folder / "held_out.jsonl"), "file", layout=Layout(open=True))
    prompt = LabelStore.open(labels).manifest.scoring.prompt
    right = plainly_right(questions, prompt)
    assert 0 < sum(right.values()) < HELD_OUT
    assert {row["question"]: row["reward"] for row in rows if row["policy"] == "base"} == right
    for summary in report["rows"]:
        own = [row["reward"] for row in rows if row["policy"] == summary["policy"]]
        assert summary["accuracy"] == sum(own) / len(own)
    for row in rows:  # no answer is called right that the chosen option does not say is
        assert row["reward"] == (row["choice"] == row["gold"])


def plainly_right(questions: list[Question], prompt: Prompt) -> dict[str, float]:
    """By key, whether transformers' own greedy generation answers with the number that is right."""
    folder = assets.model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    right = {}
    for question in questions:
        tokens = tokenizer(prompt.text(as_sample(question).prompt, tokenizer).rstrip(), return_tensors="pt")
        with torch.inference_mode():
            written = model.generate(**tokens, max_new_tokens=12, do_sample=False)
        text = tokenizer.decode(written[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
        found = re.search(r"-?\d+", text.lstrip().split("\n")[0])
        right[question.key] = float(found is not None and found[0] == question.choices[0])
    return right


def test_4_figures_and_table(command: Command, folder: Path) -> None:
    stores = ("--labels", folder / "verify")
    code, said = command("examples.search_figures", "figures", *stores, "--output", folder / "figures")
    assert code == 0, said
    drawn = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert drawn == {"depth", "transitions", "layer_use", "skips_and_repeats", "percentiles"}
    labels = LabelStore.open(folder / "verify").read()
    numbers = json.loads((folder / "figures" / "figures.json").read_text())["mine.jsonl"]
    assert sum(numbers["transitions"].values()) == LABELLED
    assert sorted(numbers["depth_right"]) == sorted(
        min(trial.chain.depth for trial in label.good) for label in labels if label.base.reward and label.good
    )
    code, said = command("examples.search_figures", "table", *stores, "--output", folder / "table.md")
    assert code == 0, said
    row = (folder / "table.md").read_text().splitlines()[-1].split(" | ")
    assert row[1] == str(LABELLED)
    assert row[4] == "both"
    assert row[5].startswith(f"{sum(bool(label.good) for label in labels) / LABELLED:.1%}")


def test_5_show_prompt(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *texts, **_: printed.append(" ".join(map(str, texts))))
    code, _ = command("cola_learn.label", *CONFIG, "--show-prompt", "--output", folder / "shown")
    assert code == 0
    assert printed[0].startswith("Problem: What is 3 plus 4?\nAnswer: 7\n\nProblem: ")
    assert printed[0].endswith("\nAnswer:")
    assert not (folder / "shown").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "arc_easy:test", "--reward", "verify"), "--reward verify is not for questions with choices"),
        (
            ("--tasks", "examples.sums.chain_sum_1:test", "--reward", "choices"),
            "--reward choices is not for open questions",
        ),
        (
            ("--tasks", "examples.sums.chain_sum_1:test", "--prompt.ask", "Solve it."),
            "prompt.ask is 'Solve it.'; write {question} where",
        ),
        (
            ("--tasks", "examples.sums.chain_sum_1:dev"),
            "split dev of examples.sums.chain_sum_1 is not known",
        ),
    ],
)
def test_6_wrong_input_is_one_clear_line(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, said = command("cola_learn.label", *arguments, "--output", tmp_path / "out")
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
