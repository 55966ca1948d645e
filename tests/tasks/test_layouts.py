"""Files of questions in the layouts that people have: each is read right, or refused with what decides."""

import bz2
import gzip
import json
import lzma
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.errors import UserError
from cola_learn.label.__main__ import LABEL
from cola_learn.tasks.columns import Layout
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.question_files import HUB

Q = "Which is a gas?"
C = ["gold", "iron", "helium", "wood"]
GSM = "She has 5+5=<<5+5=10>>10 of them.\n#### 10"
HELIUM = (Q, (*C,), 2)


P = "It is a noble one."


def row(**fields: Any) -> list[dict[str, Any]]:
    return [fields]


def rows(*answers: Any, **fields: Any) -> list[dict[str, Any]]:
    """A row for each answer; lists of fields are of the rows, everything else is in all."""
    each = [
        {name: values[n] if isinstance(values, tuple) else values for name, values in fields.items()}
        for n in range(len(answers))
    ]
    return [
        {"question": f"{Q} {n}", "choices": C, "answer": answer, **more}
        for n, (answer, more) in enumerate(zip(answers, each, strict=True))
    ]


ABCD = dict(zip("ABCD", C, strict=True))
GPQA = {
    "Question": Q,
    "Correct Answer": "helium",
    "Incorrect Answer 1": "gold",
    "Incorrect Answer 2": "wood",
    "Incorrect Answer 3": "iron",
}
SORTED = (Q, (*sorted(C),), 1)
MEDMCQA = {
    "question": Q,
    "opa": "gold",
    "opb": "iron",
    "opc": "helium",
    "opd": "wood",
    "choice_type": "single",
    "exp": "It is.",
    "subject_name": "Any",
    "topic_name": "Gases",
}
COPA = {"premise": "I fell.", "choice1": "It rained.", "choice2": "I sang.", "question": "cause", "label": 0}
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "assistant", "content": "Ask."},
    {"role": "user", "content": P},
    {"role": "assistant", "content": "Gas."},
]
HINT = "Think of the noble gases."

# what is in the file, how it is to be read, and what it holds: a question; or a refusal; or a refusal and the question
# that the options in the refusal read
LAYOUTS: dict[str, tuple[list[Any], dict[str, Any], Any]] = {
    # read
    "index": (rows(2, 0), {}, (f"{Q} 0", (*C,), 2)),
    "letter": (row(question=Q, choices=C, answer="C"), {}, HELIUM),
    "letter, small, with a space": (row(question=Q, choices=C, answer=" c"), {}, HELIUM),
    "letter in brackets": (row(question=Q, choices=C, answer="(C)"), {}, HELIUM),
    "text": (row(question=Q, choices=C, answer="helium"), {}, HELIUM),
    "options": (row(question=Q, options=C, answer="C"), {}, HELIUM),
    "endings and label": (row(question=Q, endings=C, label="C"), {}, HELIUM),
    "answers are the options": (row(question=Q, answers=C, correct="C"), {}, HELIUM),
    "capitals": (row(Question=Q, Choices=C, Answer="C"), {}, HELIUM),
    "camel case": (row(question=Q, choices=C, correctAnswer="helium"), {}, HELIUM),
    "ARC with letters": (row(id="m1", question=Q, choices={"text": C, "label": [*"ABCD"]}, answerKey="C"), {}, HELIUM),
    "ARC with numbers from 1": (row(question=Q, choices={"text": C, "label": [*"1234"]}, answerKey="3"), {}, HELIUM),
    "ARC as it was published": (
        row(id="m1", question={"stem": Q, "choices": [{"text": text, "label": label} for label, text in ABCD.items()]}, answerKey="C"),
        {},
        HELIUM,
    ),
    "options by letter": (row(question=Q, options=ABCD, answer="C"), {}, HELIUM),
    "options by letter, text beside": (row(question=Q, options=ABCD, answer="helium", answer_idx="C"), {}, HELIUM),
    "columns A to D": (row(question=Q, **ABCD, answer="C"), {}, HELIUM),
    "columns a to d, one empty": (row(question=Q, a="x", b="y", c="z", d="", answer="B"), {}, (Q, ("x", "y", "z"), 1)),
    "columns A to L": (row(question=Q, **{letter: letter.lower() * 2 for letter in "ABCDEFGHIJKL"}, answer="L"), {}, (Q, tuple(one * 2 for one in "abcdefghijkl"), 11)),
    "option_a": (row(question=Q, option_a="x", option_b="y", answer="b"), {}, (Q, ("x", "y"), 1)),
    "option1, answer by name": (row(question=Q, option1="x", option2="y", answer="option1"), {}, (Q, ("x", "y"), 0)),
    "ending0 and label 1": (row(question=Q, ending0="x", ending1="y", label=1), {}, (Q, ("x", "y"), 1)),
    "marks": (row(question=Q, choices=C, label=[0, 0, 1, 0]), {}, HELIUM),
    "marks as truths": (row(question=Q, choices=C, correct=[False, False, True, False]), {}, HELIUM),
    "objects with text and label": (row(question=Q, choices=[{"label": a, "text": b} for a, b in ABCD.items()], answer="C"), {}, HELIUM),
    "two answers that agree": (row(question=Q, choices=C, answer="C", label=2), {}, HELIUM),
    "a number beyond from 0": (row(question=Q, choices=C, answer="4"), {}, (Q, (*C,), 3)),
    "dates stay texts": (row(question=Q, choices=["2020-01-01", "2021-01-01"], answer="2021-01-01"), {}, (Q, ("2020-01-01", "2021-01-01"), 1)),
    "numbers stay as written": (row(question=Q, choices=[1, 2.5], answer="A"), {}, (Q, ("1", "2.5"), 0)),
    "floats of whole numbers": (rows(2.0, 0.0, id=("a", "b")), {}, (f"{Q} 0", (*C,), 2)),
    "bookkeeping": (rows("C", "D", id=("a", "b"), source="exam", version=2, row_id=(5, 6), tags=[]), {}, (f"{Q} 0", (*C,), 2)),
    "pandas' index": ([{"Unnamed: 0": n, **one} for n, one in enumerate(rows("C", "D"))], {}, (f"{Q} 0", (*C,), 2)),
    "unusual names": (row(q=Q, opts=C, key="C"), {"columns": "question=q,choices=opts,answer=key"}, HELIUM),
    "unusual columns of options": (row(question=Q, w="x", v="y", answer="v"), {"columns": "choices=w+v"}, (Q, ("x", "y"), 1)),
    "nested fields": (row(q={"text": Q, "opts": C}, key="C"), {"columns": "question=q.text,choices=q.opts,answer=key"}, HELIUM),
    "a passage": (row(question=Q, passage=P, choices=C, answer="C"), {"columns": "question=passage+question"}, (f"{P}\n{Q}", (*C,), 2)),
    "an empty passage": (row(question=Q, passage="", choices=C, answer="C"), {"columns": "question=passage+question"}, HELIUM),
    "a dialogue": (row(question=Q, dialogue=["A: Hm.", "B: Ah."], choices=C, answer="C"), {"columns": "question=dialogue+question"}, (f"A: Hm.\nB: Ah.\n{Q}", (*C,), 2)),
    "a passage left out": (row(question=Q, passage=P, choices=C, answer="C"), {"ignore": "passage"}, HELIUM),
    "all else left out": (row(question=Q, passage=P, choices=C, answer="C", grade=7), {"ignore": "*"}, HELIUM),
    "said to count from 1": (row(question=Q, choices=C, answer="3"), {"answers": "from1"}, HELIUM),
    "said to count from 0": (row(question=Q, choices=C, answer="2"), {"answers": "from0"}, HELIUM),
    "the right option has a column": (row(question=Q, right="helium", w="gold", x="wood", y="iron"), {"columns": "choices=right+w+x+y,answer=right"}, SORTED),
    # responses
    "prompt and response": (row(id="m1", prompt=P, response="Gas."), {}, (P, ("Gas.",), 0)),
    "prompt and completion": (row(prompt=P, completion=" Gas."), {}, (P, (" Gas.",), 0)),
    "prompt without a response": (row(prompt=P, response=""), {}, "row 1: has no question, or no answer"),
    "prompt, response and a score": (row(prompt=P, response="Gas.", score=0.7), {}, "score"),
    "prompt and response, a score left out": (row(prompt=P, response="Gas.", score=0.7), {"ignore": "score"}, (P, ("Gas.",), 0)),
    "prompt and response, all else left out": (row(prompt=P, response="Gas.", score=0.7), {"ignore": "*"}, (P, ("Gas.",), 0)),
    "prompt and output": (row(prompt=P, output="Gas."), {}, (P, ("Gas.",), 0)),
    "a response in a column of any name": (row(question=Q, answer=GSM, level=3), {"columns": "question=question,response=answer", "ignore": "level"}, (Q, (GSM,), 0)),
    "a response beside what is not spoken of": (row(question=Q, answer=GSM, level="x y"), {"columns": "response=answer"}, "column level is neither"),
    "a response that is none": (row(question=Q, answer=7), {"columns": "question=question,response=answer"}, "row 1: answer is 7; give a text"),
    "a response in two columns": (row(question=Q, a="x", b="y"), {"columns": "question=question,response=a+b"}, "columns names 2 columns of responses; give one"),
    "a response beside an answer": (row(question=Q, a="x", b="y"), {"columns": "question=question,answer=a,response=b"}, "a response stands alone, without choices, answer or open"),
    "a prompt with an answer that is no short one": (row(prompt=P, answer=f"Hm.\n{Q}"), {}, "(or question=NAME,response=NAME)"),
    "messages": (row(messages=TURNS), {}, (json.dumps(TURNS[:3]), ("Gas.",), 0)),
    "messages as no_robots has them": (row(prompt="Hm?", prompt_id="a", messages=TURNS, category="Chat"), {}, (json.dumps(TURNS[:3]), ("Gas.",), 0)),
    "ShareGPT": (row(id="m1", conversations=[{"from": "human", "value": P}, {"from": "gpt", "value": "Gas."}]), {}, (json.dumps(TURNS[2:3]), ("Gas.",), 0)),
    "messages that end with a question": (row(messages=TURNS[:3]), {}, "row 1: has no question, or no answer"),
    "messages of a tool": (row(messages=[{"role": "tool", "content": "x"}, *TURNS]), {}, "the role 'tool' is none of system, user, assistant"),
    "Alpaca": (row(instruction=P, input="", output="Gas."), {}, (P, ("Gas.",), 0)),
    "Alpaca with an input": (row(instruction=P, input="In.", output="Gas."), {}, (f"{P}\n\nIn.", ("Gas.",), 0)),
    "Dolly": (row(instruction=P, context="C.", response="Gas.", category="qa"), {}, (f"{P}\n\nC.", ("Gas.",), 0)),
    "a passage alone": (row(text="a b c d e f"), {}, ("a b", (" c d e f",), 0)),
    # known as a whole
    "MMLU": (rows(2, 0, subject=("law", "art")), {}, (f"{Q} 0", (*C,), 2)),
    "CommonsenseQA": (row(id="m1", question=Q, question_concept="gas", choices={"text": C, "label": [*"ABCD"]}, answerKey="C"), {}, HELIUM),
    "OpenBookQA, additional": (row(id="m1", question_stem=Q, choices={"text": C, "label": [*"ABCD"]}, answerKey="C", fact1="f f", humanScore=1.0, clarity=1.4, turkIdAnonymized="x"), {}, HELIUM),
    "QASC": (row(id="m1", question=Q, choices={"text": C, "label": [*"ABCD"]}, answerKey="C", fact1="f f", fact2="g g", combinedfact="h h", formatted_question=f"{Q} (A)"), {}, HELIUM),
    "PIQA": (row(goal=Q, sol1="x", sol2="y", label=1), {}, (Q, ("x", "y"), 1)),
    "SocialIQA": (row(context="C.", question="Q?", answerA="x", answerB="y", answerC="z", label="3"), {}, ("C. Q?", ("x", "y", "z"), 2)),
    "WinoGrande": (row(sentence="S so _ did.", option1="x", option2="y", answer="2"), {}, ("S so _ did.", ("x", "y"), 1)),
    "BoolQ": (row(question="is it", passage="P.", answer=True), {}, ("P.\nQuestion: is it?", ("no", "yes"), 1)),
    "SciQ": (row(question=Q, distractor1="gold", distractor2="iron", distractor3="wood", correct_answer="helium", support=""), {}, (Q, ("gold", "iron", "wood", "helium"), 3)),
    "HellaSwag": (
        row(ind=1, activity_label="Roof", ctx_a="A man sits.", ctx_b="he", ctx="A man sits. he", endings=["x", "y [title] z"], source_id="s", split="val", split_type="in", label="1"),
        {},
        ("Roof: A man sits. He", ("x", "y. z"), 1),
    ),
    "COPA": (row(**COPA, idx=3), {}, ("I fell because", ("it rained.", "i sang."), 0)),
    "SWAG": (row(**{"video-id": "v", "fold-ind": "1", "startphrase": "He then", "sent1": "Hm.", "sent2": "He then", "gold-source": "gen", "ending0": "x", "ending1": "y", "ending2": "z", "ending3": "w", "label": 2}), {}, ("He then", ("x", "y", "z", "w"), 2)),
    "CosmosQA": (row(id="1", context=P, question=Q, answer0="x", answer1="y", answer2="z", answer3="w", label=1), {}, (f"{P}\n{Q}", ("x", "y", "z", "w"), 1)),
    "RACE": (row(example_id="high1.txt", article=P, question=Q, options=C, answer="C"), {}, (f"{P}\n{Q}", (*C,), 2)),
    "MedMCQA": ([{"id": n, "cop": cop, **MEDMCQA} for n, cop in enumerate((2, 0))], {}, HELIUM),
    "MMLU-Pro": (row(question_id=70, question=Q, options=C, answer="C", answer_index=2, cot_content="A: Let us.", category="science", src="ori"), {}, HELIUM),
    "GPQA": (row(**GPQA, **{"Record ID": "rec1", "Subdomain": "Gas", "Explanation": "E e.", "High-level domain": "Chemistry"}), {}, SORTED),
    "TruthfulQA": (row(question=Q, mc1_targets={"choices": C, "labels": [0, 0, 1, 0]}, mc2_targets={"choices": C, "labels": [0, 0, 1, 1]}), {}, HELIUM),
    "LogiQA": (row(context=P, query=Q, options=C, correct_option=0), {"answers": "from0", "columns": "question=context+query"}, (f"{P}\n{Q}", (*C,), 0)),
    "LogiQA 2": ([{"id": n, "answer": n, "text": P, "type": {"Necessary": True}, "question": Q, "options": C} for n in range(2)], {}, (f"{P}\n{Q}", (*C,), 0)),
    "AQuA-RAT": (row(question=Q, options=["A)gold", "B)iron", "C)helium", "D)wood"], rationale="It is C.", correct="C"), {}, HELIUM),
    # open
    "working and ####": (row(question=Q, answer=GSM), {"open": True}, (Q, "10")),
    "a solution with a box": (row(problem=Q, answer="So it is $\\boxed{\\frac12}$."), {"open": True}, (Q, "\\frac12")),
    "the answer is, at the end": (row(query=Q, answer="She has 5.\n#### 5\nThe answer is: 5"), {"open": True}, (Q, "5")),
    "the answer is, in a sentence": (row(query=Q, answer="2 + 3 = 5. The answer is: 5"), {"open": True}, (Q, "5")),
    "a short answer": (row(question=Q, answer=4), {"open": True}, (Q, "4")),
    "open in spite of options": (row(question=Q, choices=C, answer="helium"), {"open": True, "ignore": "choices"}, (Q, "helium")),
    "SVAMP": (row(ID="chal-1", Body="He has 8.", Question="How many?", Equation="( 8 - 3 )", Answer=5.0, Type="Subtraction"), {"open": True}, ("He has 8.\nHow many?", "5")),
    # refused: two readings
    "numeric text": (row(question=Q, choices=C, answer="3"), {}, "answer '3' may be an index from 0 ('wood') or an index from 1 ('helium'), and no row of the file decides; say which with --answers from0 or --answers from1"),
    "an index that any way of counting allows": (row(question=Q, choices=C, answer=2), {}, "answer 2 may be an index from 0 ('helium') or an index from 1 ('iron')"),
    "option1, answer 1": (row(question=Q, option1="x", option2="y", answer=1), {}, "may be an index from 0 ('y') or an index from 1 ('x')"),
    "numeric options": (row(question=Q, choices=["1", "2", "3"], answer="2"), {}, "may be the text of an option ('2') or an index from 0 ('3')"),
    "numeric options and a number": (row(question=Q, choices=[1.5, 2.0, 2.5, 3.0], answer=2.0), {}, "may be the text of an option ('2.0') or an index from 0 ('2.5')"),
    "options that are letters": (row(question=Q, choices=["B", "A"], answer="B"), {}, "may be the text of an option ('B') or a letter from A ('A')"),
    "two answers that differ": (rows("C", "A", label=(1, 0)), {}, ("row 1: columns answer and label may be the answer, and do not agree", (f"{Q} 0", (*C,), 2))),
    "the text of an option beside a grade": (rows("iron", "gold", difficulty=(0, 3), label=(0, 2)), {}, "column difficulty is neither question, options nor answer"),
    "two columns of options": (row(question=Q, choices=C, options=C[::-1], answer="helium"), {}, ("none of them is the options for sure", HELIUM)),
    "two questions": (row(question=Q, query="Is it another?", choices=C, answer="C"), {}, ("column query is neither question, options nor answer", (f"Is it another?\n{Q}", (*C,), 2))),
    "two ends of an answer": (row(question=Q, answer="#### 5\nThe answer is: 6"), {"open": True}, "answer ends in two answers, '5' and '6'"),
    # refused: columns that nothing says anything of
    "a passage that nobody spoke of": (row(question=Q, passage=P, choices=C, answer="C"), {}, ("column passage is neither question, options nor answer", (f"{P}\n{Q}", (*C,), 2))),
    "premise and hypothesis": (rows("A", "B", question=None, premise=P, hypothesis=(Q, P)), {}, ("none of them is the question for sure", (f"{P}\n{Q}", (*C,), 0))),
    "COPA, renamed": (row(premise="I fell.", choice1="It rained.", choice2="I sang.", question="What was the cause?", gold="A"), {}, ("column premise is", ("I fell.\nWhat was the cause?", ("It rained.", "I sang."), 0))),
    "MuSR's narrative": (row(narrative=P, question=Q, choices=C, answer_choice="helium"), {}, ("none of them is the answer for sure", (f"{P}\n{Q}", (*C,), 2))),
    "ScienceQA's hint": (rows("C", "D", hint=(HINT, ""), lecture=("One two.", "Three four."), grade=("grade2", "grade3"), solution=("It is C.", "It is D.")), {}, ("columns hint, lecture, grade, solution are neither", (f"{HINT}\nOne two.\n{Q} 0", (*C,), 2))),
    "Belebele": (row(flores_passage=P, question=Q, mc_answer1="gold", mc_answer2="iron", mc_answer3="helium", mc_answer4="wood", correct_answer_num="4"), {}, ("is the options for sure", (f"{P}\n{Q}", (*C,), 3))),
    "alpaca's instruction": (row(instruction="Name a gas.", input="Be brief.", answer="helium"), {"open": True}, ("column instruction is", ("Name a gas.\nBe brief.", "helium"))),
    "two passages": (row(passage=P, summary="All in all.", question=Q, choices=C, answer="C"), {"columns": "question=passage+question"}, ("column summary is neither", (f"{P}\n{Q}", (*C,), 2))),
    "distractors in a list": (row(question=Q, distractors=["gold", "iron", "wood"], answer="helium"), {}, ("is the options for sure", SORTED)),
    "OpenTDB": (row(category="Science: Gas", question=Q, correct_answer="helium", incorrect_answers=["gold", "iron", "wood"]), {}, ("is the options for sure", (f"Science: Gas\n{Q}", *SORTED[1:]))),
    "SciQ, renamed": (row(question=Q, wrong1="gold", wrong2="iron", wrong3="wood", right_answer="helium"), {}, ("is the options for sure", SORTED)),
    "a list in an unusual column": (row(question=Q, things=C, answer="C"), {}, ("is the options for sure", HELIUM)),
    "unusual names, unsaid": (row(q=Q, opts=C, key="C"), {}, ("is the question for sure", HELIUM)),
    "no answer column": (row(question=Q, choices=C, key="C"), {}, ("is the answer for sure", HELIUM)),
    "a name with a space": (row(question=Q, choices=C, answer="C", **{"My Notes": "for me only"}), {}, ("column My Notes is", (f"for me only\n{Q}", (*C,), 2))),
    "working without --open": (row(question=Q, answer=GSM), {}, ("is the options for sure", (Q, "10"))),
    "no options": (row(question=Q, answer="4"), {}, ("is the options for sure", (Q, "4"))),
    "a wrong name": (row(question=Q, choices=C, answer="C"), {"columns": "answer=key"}, "--columns names 'key'; the columns are question, choices, answer"),
    "a wrong name to ignore": (row(question=Q, choices=C, answer="C"), {"ignore": "hint"}, "--ignore names 'hint'; the columns are"),
    "a context": (row(question=Q, passage=P, choices=C, answer="C"), {"columns": "context=passage"}, "write question=passage+question"),
    # refused: rows
    "a typo beside a grade": (rows("B", "A", "F", target=(1, 0, 1)), {}, "row 3: answer 'F' is none of the 4 options"),
    "no answer in a row, beside a grade": (rows("B", None, target=(1, 0)), {}, "row 2: answer is None: no answer is given"),
    "MedMCQA, one answer hidden": ([{"id": n, "cop": cop, "label": n, **MEDMCQA} for n, cop in enumerate((2, -1, 0))], {}, "column exp is neither question, options nor answer"),
    "answers in two ways": (rows("A", "helium", "B"), {}, "row 2: answer 'helium' is not a letter from A, as in other rows; all answers are read in one way"),
    "labels twice": (row(question=Q, choices={"text": C, "label": [*"ABAB"]}, answer="B"), {}, "row 1: choices holds 'A' twice; labels must differ"),
    "a field that is not read": (row(question=Q, choices=[{"text": one, "note": "n"} for one in C], answer="helium"), {}, "choices has a field 'note' that is not read"),
    "NaN for an option": (row(question=Q, choices=["gold", float("nan")], answer="gold"), {}, "row 1: choices holds None; every option is a text"),
    "a tab in an option": (row(question=Q, choices=["gold", "iron\twood"], answer="gold"), {}, "has a tab or a line end in it"),
    "an object for a passage": (row(question=Q, passage=[1, 2], choices=C, answer="C"), {"columns": "question=passage+question"}, "row 1: passage is [1, 2]; give a text"),
    "Arabic digits": (row(question=Q, choices=C, answer="٢"), {}, "row 1: answer '٢' is none of the 4 options"),
    "one option": (row(question=Q, choices=["x"], answer=0), {}, "row 1: choices holds 1 option; a question needs at least two"),
    "twins": (row(question=Q, choices=["x", "y", " x"], answer=0), {}, "row 1: choices holds 'x' twice"),
    "beyond the options": (row(question=Q, choices=C, answer="E"), {}, "row 1: answer 'E' is none of the 4 options"),
    "a hidden answer": (row(question=Q, choices=C, label=-1), {}, "row 1: label is -1: no answer is given"),
    "an empty answer": (row(question=Q, choices=C, answer=""), {}, "row 1: answer is '': no answer is given"),
    "nothing for an answer": (row(question=Q, choices=C, answer=None), {}, "row 1: answer is None: no answer is given"),
    "an empty option": (row(question=Q, choices=["x", " ", "y"], answer=0), {}, "row 1: choices holds ' '; every option is a text"),
    "two marks": (row(question=Q, choices=C, label=[0, 1, 1, 0]), {}, "row 1: label [0, 1, 1, 0] is none of the 4 options"),
    "options in one text": (row(question=Q, choices="x|y", answer=0), {"columns": "choices=choices"}, "row 1: choices is 'x|y'; give a list of texts"),
    "a label that is a number": (row(question=Q, choices=C, answer=1.5), {}, "row 1: answer 1.5 is none of the 4 options"),
    "an answer that is a list": (row(question=Q, answer=["4"]), {"open": True}, "row 1: answer is ['4']; give a short text or a number"),
    "an answer that is an essay": (row(question=Q, answer="x " * 300), {"open": True}, "give a short text or a number"),
    "no question": (row(question=" ", choices=C, answer="C"), {"columns": "question=question"}, "row 1: question is ' '; give a text"),
    "ids twice": ([{"question": Q, "choices": C, "answer": "C", "id": 7}] * 2, {}, ("row 2: id '7' is there twice", HELIUM)),
    "not an object": ([{"question": Q, "choices": C, "answer": "C"}, ["x"]], {}, "row 2: has list"),
    "bad rows are counted": (rows("C", *"ZZZ"), {}, "row 2: answer 'Z' is none of the 4 options; give an option's text, a letter from A to D, or an index (2 more rows"),
    "a setting of no field": (row(question=Q, choices=C, answer=2), {"columns": "prompt=q"}, "columns is 'prompt=q'; write question"),
}  # fmt: skip


def as_jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in rows)


def check(task: Path | str, layout: dict[str, Any], expected: Any) -> None:
    if isinstance(expected, str) or (expected and isinstance(expected[1], tuple) and len(expected) == 2):
        message, question = (expected, None) if isinstance(expected, str) else expected
        with pytest.raises((UserError, ValueError)) as error:
            load_task(str(task), layout=Layout(**layout))
        assert message in str(error.value)
        assert "\n" not in str(error.value)
        given = (
            str(error.value).partition("to read it, give ")[2].removesuffix(", or another --answers: no row decides")
        )
        if question or given:
            check(task, as_pasted(given), question)
        return
    question = load_task(str(task), layout=Layout(**layout))[0]
    if layout.get("open"):
        assert question.open
        assert (question.prefix, question.suffix) == ("", "")
        assert expected in (None, (question.text, question.choices[0]))
    else:
        assert expected in (None, (question.text, question.choices, question.gold))
        assert not question.open


def as_pasted(options: str) -> dict[str, Any]:
    """A layout as the options of a refusal give it, read by the command line of ``label``."""
    parsed = LABEL._parse("label", shlex.split(options))
    return asdict(parsed.layout)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    rows, layout, expected = LAYOUTS[name]
    (tmp_path / "mine.jsonl").write_text(as_jsonl(rows))
    check(tmp_path / "mine.jsonl", layout, expected)


def numbers(values: list[Any], count: int = 4) -> list[dict[str, Any]]:
    return [{"question": f"{Q} {n}", "choices": C[:count], "answer": value} for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "golds"),
    [
        ([0, 1, 3], [0, 1, 3]),
        ([1, 2, 4], [0, 1, 3]),  # 4 of 4 options can only be counted from 1
        (["1", "0", "3"], [1, 0, 3]),
        (["1", "4", "3"], [0, 3, 2]),
        (["1", "2", "3"], None),
        ([1, 2, 3], None),
        ([0, 1, 4], None),  # from 0 and beyond the options
        (["A", "helium", 3], None),
        (["A", "2"], None),
    ],
)
def test_the_whole_file_decides_where_numbers_begin(tmp_path: Path, values: list[Any], golds: list[int] | None) -> None:
    (tmp_path / "mine.jsonl").write_text(as_jsonl(numbers(values)))
    if golds is None:
        with pytest.raises(UserError):
            load_task(str(tmp_path / "mine.jsonl"))
    else:
        assert [question.gold for question in load_task(str(tmp_path / "mine.jsonl"))] == golds


CSV = 'id,question,A,B,C,answer\r\n1,"Which, then?",0.10,NA,None,B\r\n2,Who?,x,"y ""z""",,A\r\n'
OBJECTS = [{"question": Q, "choices": C, "answer": "C"}]


def parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(OBJECTS), path)


FILES: dict[str, Callable[[Path], Any]] = {
    "a.jsonl": lambda path: path.write_text(as_jsonl(OBJECTS)),
    "bom.jsonl": lambda path: path.write_bytes(b"\xef\xbb\xbf" + as_jsonl(OBJECTS).encode()),
    "crlf.jsonl": lambda path: path.write_bytes(as_jsonl(OBJECTS).replace("\n", "\r\n\r\n").encode()),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(as_jsonl(OBJECTS).encode())),
    "a.jsonl.bz2": lambda path: path.write_bytes(bz2.compress(as_jsonl(OBJECTS).encode())),
    "a.jsonl.xz": lambda path: path.write_bytes(lzma.compress(as_jsonl(OBJECTS).encode())),
    "list.json": lambda path: path.write_text(json.dumps(OBJECTS, indent=1)),
    "table.json": lambda path: path.write_text(json.dumps({"version": "1", "data": OBJECTS})),
    "columns.json": lambda path: path.write_text(json.dumps({k: [v] for k, v in OBJECTS[0].items()})),
    "lines.json": lambda path: path.write_text(as_jsonl(OBJECTS * 1) + "\n"),
    "a.parquet": parquet,
    "index.csv": lambda path: path.write_text(f',question,A,B,C,D,answer\n0,{Q},gold,iron,helium,wood,C\n'),
    "quoted.tsv": lambda path: path.write_text(f'question\tA\tB\tC\tD\tanswer\n"{Q}"\tgold\tiron\t"helium"\twood\tC\n'),
    "text_list.csv": lambda path: path.write_text(f'question,options,answer\n{Q},"{C}",C\n'),
    "json_list.tsv": lambda path: path.write_text(f"question\toptions\tanswer\n{Q}\t'{json.dumps(C)}'\tC\n".replace("'", "")),
    "saved": lambda path: datasets.Dataset.from_list(OBJECTS).save_to_disk(str(path)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_kinds_of_files(tmp_path: Path, name: str) -> None:
    FILES[name](tmp_path / name)
    [question] = load_task(str(tmp_path / name))
    assert (question.text, question.choices, question.gold) == HELIUM
    assert question.task == name.split(".")[0]


@pytest.mark.parametrize("compress", [None, gzip.compress])
def test_cells_of_csv_are_texts(tmp_path: Path, compress: Callable[[bytes], bytes] | None) -> None:
    content = b"\xef\xbb\xbf" + CSV.encode()
    path = tmp_path / ("mine.csv" if compress is None else "mine.csv.gz")
    path.write_bytes(content if compress is None else compress(content))
    first, second = load_task(str(path))
    assert (first.text, first.choices, first.gold) == ("Which, then?", ("0.10", "NA", "None"), 1)
    assert (second.id, second.choices, second.gold) == ("2", ("x", 'y "z"'), 0)


def test_raw_quotes_of_tsv_join_no_rows(tmp_path: Path) -> None:
    """Files without quoting: some quotes are never closed, others are closed rows later."""
    texts = ['"Why', "Who?", 'So" he asked', 'A 5" disk', '"quoted" word']
    lines = [f"{text} {number}\tx\ty\tA" for number, text in enumerate(texts)]
    (tmp_path / "mine.tsv").write_text("question\tA\tB\tanswer\n" + "\n".join(lines) + "\n")
    questions = load_task(str(tmp_path / "mine.tsv"))
    assert [question.text for question in questions] == [f"{text} {number}" for number, text in enumerate(texts)]


def test_names_of_classes_are_answers(tmp_path: Path) -> None:
    """Numbers of a ClassLabel mean their names, not places of options."""
    rows = datasets.Dataset.from_dict({"question": [Q, Q], "choices": [C, C], "label": [0, 1]})
    features = rows.features | {"label": datasets.ClassLabel(names=["helium", "gold"])}
    rows.cast(datasets.Features(features)).save_to_disk(str(tmp_path / "saved"))
    rows.cast(datasets.Features(features)).to_parquet(str(tmp_path / "a.parquet"))
    for name in ("saved", "a.parquet"):
        assert [question.gold for question in load_task(str(tmp_path / name))] == [2, 0]


def test_what_was_understood_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "said.jsonl").write_text(as_jsonl([{**OBJECTS[0], "note": "n n"}]))
    load_task(str(tmp_path / "said.jsonl"), layout=Layout(ignore="note"))
    assert "read as MMLU; not used: note" in capsys.readouterr().err
    load_task(str(tmp_path / "said.jsonl"), layout=Layout("question=question", ignore="note"))
    assert "read with question=question, choices=choices, answer=answer; not used: note" in capsys.readouterr().err


def test_saved_splits(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(OBJECTS)
    datasets.DatasetDict({"train": rows, "validation": rows}).save_to_disk(str(tmp_path / "mine"))
    [question] = load_task(str(tmp_path / "mine"), "validation")
    assert question.key == "mine/validation/1"
    with pytest.raises(UserError, match=r"split test is not in .*mine; choose train, validation"):
        load_task(str(tmp_path / "mine"), "test")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "holds no questions"),
        ("a.jsonl", b'{"question": "q"\n', "line 1 is not JSON"),
        ("a.jsonl", b'\n{"a": 1}\n{"a": \n', "line 3 is not JSON"),
        ("a.json", b'"text"', "holds a str; give a list of rows"),
        ("a.json", b'{"a": {"b": 1}}', "an object with a; give a list of rows"),
        ("a.csv", b"", "is empty; it needs a line of column names"),
        ("a.csv", b"a,a\n1,2\n", "need names that differ"),
        ("a.csv", b"question,answer\n1,2,3,4,5\n1,2\n\"", "cannot be read"),
        ("a.csv", b"answer,question,A,B,C,D\nB,Which, of these rusts?,gold,iron,glass,wood\n", "line 2: has 7 fields under 6 column names"),
        ("a.csv", b"question,A,B,answer\nWho?,x,y,A\nWhy?,x,y\n", "line 3: has 3 fields under 4 column names"),
        ("a.csv", b'question,A,B,answer\n"Who?,x,y,A\nWhy?,x,y,B\n', "line 2 cannot be read (unexpected end of data)"),
        ("a.csv", b'question,A,B,answer\nWho?,"x,y,A\nWhy?",x,y,B\nWhat?,x,y,A\n', "line 2: has 5 fields"),
        ("a.csv", b'question,A,B,answer\nWho?,x,"y,A\nWhy?,x",A\n', "has a tab or a line end in it"),
        ("a.parquet", b"no", "cannot be read"),
        ("a.jsonl.gz", b"no", "cannot be read"),
        ("a.jsonl", b"\xff\xfe\x00", "cannot be read"),
        ("a.txt", b"x", "is of no known kind"),
        ("a.jsonl", b'{"question": ' + b"[" * 100_000, "line 1 is not JSON"),
    ],
)  # fmt: skip
def test_damaged_files_are_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    check(tmp_path / name, {}, message)


def test_names_of_datasets_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check(f"{HUB}only_a_name", {}, "names no dataset; write hub:ORG/NAME or hub:ORG/NAME:CONFIG")
    check(f"{HUB}nobody/nothing", {}, "hub:nobody/nothing split validation could not be loaded")


def test_layouts_are_for_files() -> None:
    with pytest.raises(UserError, match="columns, answers, ignore and open are for files; arc_easy is read"):
        load_task("arc_easy", layout=Layout(open=True))


words = st.text(st.characters(categories=("L", "N", "Zs", "P")), min_size=1, max_size=12).filter(str.strip)


@given(st.lists(words, min_size=2, max_size=6, unique_by=str.strip), st.data())
def test_any_options_and_any_text_answer(
    tmp_path_factory: pytest.TempPathFactory, options: list[str], data: Any
) -> None:
    """An answer given as an option's text is that option, or the file is refused; it is never another."""
    gold = data.draw(st.integers(0, len(options) - 1))
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(as_jsonl([{"question": Q, "choices": options, "answer": options[gold]}]))
    try:
        golds = [question.gold for question in load_task(str(path))]
    except UserError:
        golds = []
    assert golds in ([], [gold])
