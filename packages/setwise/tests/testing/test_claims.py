from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from setwise.testing.claims import difference, expect_close, expect_error


@dataclass
class Point:
    x: Tensor
    name: str


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        (1, 2, "1 instead of 2"),
        (1, 1.0, "int instead of float"),
        ("a", "b", "'a' instead of 'b'"),
        (range(3), range(5), "range(0, 3) instead of range(0, 5)"),
        ([1, [2, 3]], [1, [2, 5]], "at [1][1], 3 instead of 5"),
        ((1,), (1, 2), "1 values instead of 2"),
        ({"a": 1}, {"b": 1}, "keys ['a'] instead of ['b']"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "at a.b, 1 instead of 2"),
        (torch.zeros(3), torch.zeros(5), "torch.float32 (3,) instead of torch.float32 (5,)"),
        (torch.zeros(3), torch.zeros(3).long(), "torch.float32 (3,) instead of torch.int64 (3,)"),
        (torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 2.5, 3]), "1 of 3 numbers differ, by up to 0.5"),
        (torch.tensor([torch.nan, 1]), torch.tensor([torch.nan, torch.nan]), "1 of 2 numbers differ, by up to nan"),
        (torch.tensor([True, False]), torch.tensor([True, True]), "1 of 2 numbers differ, by up to 1"),
        (np.array([1, 2]), np.array([1, 7]), "1 of 2 numbers differ, by up to 5"),
        (np.array(["a"]), np.array(["b"]), "arrays differ"),
        (Point(torch.zeros(1), "p"), Point(torch.ones(1), "p"), "at x, 1 of 1 numbers differ, by up to 1"),
    ],
)
def test_first_difference_is_told(left: Any, right: Any, words: str) -> None:
    assert difference(left, right) == words


@pytest.mark.parametrize(
    "value",
    [
        None,
        float("nan"),
        {"a": [torch.tensor([1.0, torch.nan]), "b"], "c": (1, 2.0)},
        np.array([1.0, np.nan]),
        np.array(["a"], dtype=object),
        Point(torch.ones(2, requires_grad=True), "p"),
        torch.ones(2, dtype=torch.complex64),
    ],
)
def test_value_does_not_differ_from_its_like(value: Any) -> None:
    assert difference(value, value) is None


def test_complex_numbers_differ() -> None:
    assert difference(torch.tensor([1j]), torch.tensor([2j])) is not None


@pytest.mark.parametrize(
    ("actual", "expected", "words"),
    [
        ([1.0, 2.0], [1.0, 2.5], r"off: they differ by 0.5 at \(1,\), allowed is 0.25"),
        ([1.0, torch.nan], [1.0, 2.0], "off: not all numbers are finite"),
        ([1.0], [1.0, 2.0], r"off: shapes \(1,\) and \(2,\) differ"),
    ],
)
def test_tensors_that_are_not_close_are_told(actual: list[float], expected: list[float], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        expect_close(torch.tensor(actual), torch.tensor(expected), "off", tolerance=0.1)


def test_tolerance_is_a_share_of_the_largest_magnitude_and_at_least_of_one() -> None:
    expect_close(torch.tensor([109.0, 0.0]), torch.tensor([100.0, 9.0]), "off", tolerance=0.1)
    expect_close(torch.tensor([0.05]), torch.tensor([0.0]), "off", tolerance=0.1)
    expect_close(torch.zeros(0), torch.zeros(0), "off", tolerance=0.0)


def test_another_error_than_expected_is_told() -> None:
    with (
        pytest.raises(AssertionError, match="this must raise KeyError; it raised ValueError: no"),
        expect_error(KeyError, "this"),
    ):
        raise ValueError("no")


def test_missing_error_is_told() -> None:
    with (
        pytest.raises(AssertionError, match="this must raise KeyError; nothing was raised"),
        expect_error(KeyError, "this"),
    ):
        pass
