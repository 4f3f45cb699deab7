"""Dropout: the distribution of what is dropped, and its gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from setwise_npt.dropout import Dropout


@pytest.mark.parametrize("probability", [0.003, 0.1, 0.5, 0.9])
def test_every_place_is_dropped_equally_often_and_independently(probability: float):
    torch.manual_seed(0)
    draws = torch.stack([Dropout(probability)(torch.ones(13)) == 0 for _ in range(4001)]).double()
    deviation = (probability * (1 - probability) / len(draws)) ** 0.5
    assert (draws.mean(0) - probability).abs().max() < 4 * deviation
    neighbours = (draws[:, 1:] * draws[:, :-1]).mean()
    expected = probability**2
    assert abs(neighbours - expected) < 4 * (expected * (1 - expected) / (12 * len(draws))) ** 0.5 + 1e-4


def test_what_is_kept_is_divided_by_the_probability_of_keeping_it():
    x = torch.randn(7, 11)
    dropped = Dropout(0.25)(x)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], x[kept] / 0.75)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_gradient_passes_where_the_value_does(inplace: bool):
    leaf = torch.randn(7, 11, requires_grad=True)
    dropped = Dropout(0.5, inplace=inplace)(leaf + 0)
    upstream = torch.randn(7, 11)
    dropped.backward(upstream)
    torch.testing.assert_close(leaf.grad, torch.where(dropped == 0, 0.0, 2 * upstream))


def test_in_place_writes_over_its_input_and_otherwise_leaves_it():
    x = torch.ones(101)
    assert Dropout(0.5, inplace=True)(x) is x
    untouched = torch.ones(101)
    Dropout(0.5)(untouched)
    assert untouched.eq(1).all()


def test_an_input_that_is_not_contiguous_is_dropped_from_in_its_own_order():
    x = torch.randn(5, 7).T
    dropped = Dropout(0.5)(x)
    assert (dropped.eq(0) | torch.isclose(dropped, 2 * x)).all()


def test_evaluation_and_probability_zero_return_the_input():
    x = torch.ones(3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_no_elements_are_no_problem():
    assert Dropout(0.5)(torch.zeros(0, 3)).shape == (0, 3)


def test_other_devices_get_the_dropout_of_torch():
    meta = Dropout(0.5)(torch.ones(3, device="meta"))
    assert meta.shape == F.dropout(torch.ones(3, device="meta")).shape
