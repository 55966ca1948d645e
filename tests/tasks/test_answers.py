from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola_learn.tasks.answers import MOST_SPELLINGS, boxed, spellings, with_decoys
from cola_learn.tasks.load_task import load_task
from cola_learn.tasks.questions import Question


@pytest.mark.parametrize(
    ("answer", "others"),
    [
        ("\\frac{1}{2}", {"1/2", "0.5"}),
        ("1/2", {"\\frac{1}{2}", "0.5"}),
        ("\\dfrac{9}{7}", {"\\frac{9}{7}", "9/7"}),
        ("-\\frac34", {"-\\frac{3}{4}", "-3/4", "-0.75"}),
        ("12\\text{ cm}", {"12", "12 cm"}),
        ("90^\\circ", {"90"}),
        ("50\\%", {"50"}),
        ("\\$18.90", {"18.90"}),
        ("1,000", {"1000"}),
        ("12000", {"12,000"}),
        (".5", {"0.5"}),
        ("x=5", {"5"}),
        ("x\\in[-2,7]", {"[-2,7]", "[-2, 7]"}),
        ("(1,-2)", {"(1, -2)"}),
        ("\\text{Evelyn}", {"Evelyn"}),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", {"(3,\\frac{\\pi}{2})"}),
        ("$7$.", {"7"}),
    ],
)
def test_spellings(answer: str, others: set[str]) -> None:
    assert others <= set(spellings(answer))


def test_a_decimal_is_written_only_where_it_is_exact() -> None:
    assert set(spellings("1/3")) == {"1/3", "\\frac{1}{3}"}
    assert "9/7" in spellings("\\frac{9}{7}")
    assert not any("." in text for text in spellings("\\frac{9}{7}"))


@given(st.fractions(min_value=-50, max_value=50, max_denominator=200))
def test_all_spellings_of_a_fraction_are_the_same_number(value: Fraction) -> None:
    sign = "-" if value < 0 else ""
    answer = f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"
    for text in spellings(answer):
        plain = text.replace("\\frac{", "").replace("}{", "/").replace("}", "")
        assert Fraction(plain) == value


@given(st.text(max_size=60))
def test_any_text_has_few_spellings_and_none_twice(answer: str) -> None:
    found = spellings(answer)
    assert len(found) == len(set(found)) <= MOST_SPELLINGS
    assert all(found)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
        ("\\boxed{3} or rather \\boxed{4}", "4"),
        ("\\boxed{3} or \\boxed{4", "3"),
        ("\\fbox{7}", "7"),
        ("\\boxed 9$", "9"),
        ("\\boxed{", None),
        ("nothing", None),
    ],
)
def test_boxed(text: str, inside: str | None) -> None:
    assert boxed(text) == inside


def test_decoys_are_wrong_and_look_alike() -> None:
    questions = load_task("dart_math_1", "test")
    alike = 0
    for question in questions:
        gold, decoy = question.choices
        assert question.gold == 0
        assert not set(spellings(gold)) & set(spellings(decoy))
        alike += [character.isdigit() for character in gold] == [character.isdigit() for character in decoy]
    assert alike > 0.9 * len(questions)


def test_decoys_do_not_depend_on_how_many_questions_are_taken() -> None:
    few, many = (load_task("dart_math_2", "test", limit) for limit in (20, 60))
    assert few == many[:20]


def test_nor_on_the_part_of_a_split_that_is_read() -> None:
    whole = {question.key: question for question in load_task("math_500", "test")}
    parts = [*load_task("math_500", "test[:40%]"), *load_task("math_500", "test[40%:]")]
    assert {question.key: question for question in parts} == whole


def test_a_lone_question_has_a_decoy_too() -> None:
    question = Question("mine", "file", "1", "Who?", ("Ada",), 0, "", "", open=True)
    assert with_decoys([question])[0].choices[1] != "Ada"
