"""Every kind of wrong value is told as what was given and what it must be."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field, ValidationError, model_validator

from setwise.component import Options
from setwise.document import Document, Problem
from setwise.problems import describe_problems, explain


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def refuse_thirteen(value: int) -> int:
    if value == 13:
        raise ValueError("luck=13 {is} bad luck; try 12 or 14")
    return value


class Inner(Options):
    size: int = 1


class Outer(Options):
    pair: tuple[float, float] = (0.0, 0.0)
    few: tuple[str, ...] = Field((), max_length=2)
    some: list[str] = Field(["x"], min_length=1)
    numbers: set[int] = Field(set())
    colour: Colour = Colour.RED
    choice: Literal[1, 2, "all"] = 1
    inner: Inner = Inner()
    maybe: Inner | None = None
    table: dict[str, int] = Field({})
    path: Path = Path()
    either: int | tuple[int, int] = 1
    word: str = Field("ab", pattern="^[a-z]+$", min_length=2, max_length=3)
    even: int = Field(4, multiple_of=2, lt=10)
    luck: Annotated[int, AfterValidator(refuse_thirteen)] = 0

    @model_validator(mode="after")
    def _fits_together(self) -> "Outer":
        if self.even == self.luck:
            raise ValueError(f"even={self.even} must differ from luck")
        return self


CASES = {
    "pair: [1]": "pair: given [1], must be a longer list",
    "pair: [1, 2, 3]": "pair: given [1, 2, 3], must be of length 2 or less",
    "pair: 5": "pair: given 5, must be a list",
    "few: [a, b, c]": 'few: given ["a", "b", "c"], must be of length 2 or less',
    "some: []": "some: given [], must be of length 1 or more",
    "numbers: [1, x]": 'numbers.1: given "x", must be an integer',
    "colour: green": "colour: given \"green\", must be 'red' or 'blue'",
    "choice: 3": "choice: given 3, must be one of 1, 2, all",
    "choice: al": 'choice: given "al", must be one of 1, 2, all; did you mean "all"?',
    "inner: 5": "inner: given 5, must be a mapping of keys to values",
    "inner: null": "inner: given null, must be a mapping of keys to values",
    "inner: {sise: 5}": 'inner.sise: unknown key; did you mean "size"?',
    "inner: {size: x}": 'inner.size: given "x", must be an integer',
    "maybe: {size: x}": 'maybe.size: given "x", must be an integer',
    "table: {a: x}": 'table.a: given "x", must be an integer',
    "table: [a]": 'table: given ["a"], must be a mapping of keys to values',
    "path: 5": "path: given 5, must be a path",
    "either: x": 'either: given "x", must be an integer or a list',
    "word: A1": 'word: given "A1", must be text that matches ^[a-z]+$',
    "word: a": 'word: given "a", must be text of length 2 or more',
    "word: abcd": 'word: given "abcd", must be text of length 3 or less',
    "even: 3": "even: given 3, must be a multiple of 2",
    "even: 12": "even: given 12, must be less than 10",
    "even: 1.5": "even: given 1.5, must be an integer",
    "luck: 13": "luck: luck=13 {is} bad luck; try 12 or 14",
    "luck: 4": "even=4 must differ from luck",
}


@pytest.mark.parametrize(("line", "message"), CASES.items())
def test_wrong_value_is_told(line: str, message: str):
    document = Document.parse(f"# comment\n{line}\n")

    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(document.data)

    assert explain(caught.value, document) == [Problem(2, "", message)]


def test_problems_are_told_by_line_and_then_by_override():
    problems = [
        Problem(0, "b=1", "second override"),
        Problem(7, "", "late"),
        Problem(0, "a=1", "first override"),
        Problem(3, "", "early"),
        Problem(3, "", "early"),
    ]

    assert describe_problems(problems, "r.yaml", ["a=1", "b=1"]) == (
        "4 problems in the configuration:\n"
        "  r.yaml:3: early\n"
        "  r.yaml:7: late\n"
        "  override a=1: first override\n"
        "  override b=1: second override"
    )


def test_one_problem_is_one_line():
    assert describe_problems([Problem(0, "", "no file")], "label") == "label: no file"
