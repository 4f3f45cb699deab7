"""How the suites assert: by naming the claim that does not hold, and where."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def expect(held: bool, broken: str) -> None:
    """Fail with a message unless a claim holds; unlike ``assert``, under ``python -O`` too.

    Args:
        held: whether the claim holds.
        broken: what is wrong, and what to do about it.

    Raises:
        AssertionError: it does not hold.

    Example:
        >>> expect(1 + 1 == 3, "one and one should be three")
        Traceback (most recent call last):
        AssertionError: one and one should be three
    """
    __tracebackhide__ = True
    if not held:
        raise AssertionError(broken)


def expect_equal(actual: Any, expected: Any, broken: str) -> None:
    """Fail unless two values are equal to the bit, however tensors are nested in them; NaN equals NaN.

    Raises:
        AssertionError: they are not; the message goes on with the first difference.

    Example:
        >>> expect_equal({"x": torch.ones(2)}, {"x": torch.zeros(2)}, "items of one seed differ")
        Traceback (most recent call last):
        AssertionError: items of one seed differ: at x, 2 of 2 numbers differ, by up to 1
    """
    __tracebackhide__ = True
    found = difference(actual, expected)
    expect(found is None, f"{broken}: {found}")


def expect_close(actual: Tensor, expected: Tensor, broken: str, *, tolerance: float) -> None:
    """Fail unless two tensors are finite and equal up to rounding.

    Args:
        actual: what was computed.
        expected: what it should be, of the same shape.
        broken: what is wrong if they differ.
        tolerance: largest difference, as a share of the largest magnitude in ``expected`` or of 1, the larger of both.

    Raises:
        AssertionError: they differ; the message goes on with by how much and where.
    """
    __tracebackhide__ = True
    expect(actual.shape == expected.shape, f"{broken}: shapes {tuple(actual.shape)} and {tuple(expected.shape)} differ")
    if actual.numel() == 0:
        return
    actual, expected = actual.detach().double(), expected.detach().double()
    expect(bool(actual.isfinite().all()), f"{broken}: not all numbers are finite")
    distance = (actual - expected).abs()
    allowed = tolerance * max(1.0, float(expected.abs().max()))
    worst = int(distance.argmax())
    largest = float(distance.flatten()[worst])
    place = tuple(int(i) for i in np.unravel_index(worst, distance.shape))
    expect(largest <= allowed, f"{broken}: they differ by {largest:.3g} at {place}, allowed is {allowed:.3g}")


@contextmanager
def expect_error(kind: type[Exception], what: str) -> Iterator[None]:
    """Fail unless the block raises an error of a kind.

    Raises:
        AssertionError: it raises nothing, or something else.

    Example:
        >>> with expect_error(ZeroDivisionError, "dividing by zero"):
        ...     1 / 0
    """
    try:
        yield
    except kind:
        return
    except Exception as error:
        raise AssertionError(f"{what} must raise {kind.__name__}; it raised {type(error).__name__}: {error}") from error
    raise AssertionError(f"{what} must raise {kind.__name__}; nothing was raised")


def difference(left: Any, right: Any, path: str = "") -> str | None:
    """Return in words where two values first differ, or None when they are equal to the bit."""
    where = f"at {path}, " if path else ""
    if type(left) is not type(right):
        return f"{where}{type(left).__name__} instead of {type(right).__name__}"
    if isinstance(left, np.ndarray):
        if left.dtype.kind in "OUS":
            return None if np.array_equal(left, right) else f"{where}arrays differ"
        left, right = torch.from_numpy(left.copy()), torch.from_numpy(right.copy())
    if isinstance(left, Tensor):
        found = _difference_of_tensors(left, right)
        return None if found is None else f"{where}{found}"
    if dataclasses.is_dataclass(left) and not isinstance(left, type):
        left, right = ({f.name: getattr(value, f.name) for f in dataclasses.fields(value)} for value in (left, right))
    if isinstance(left, Mapping):
        if left.keys() != right.keys():
            return f"{where}keys {sorted(map(str, left))} instead of {sorted(map(str, right))}"
        return _first(difference(left[key], right[key], f"{path}.{key}".lstrip(".")) for key in left)
    if isinstance(left, Sequence) and not isinstance(left, str | bytes | range):
        if len(left) != len(right):
            return f"{where}{len(left)} values instead of {len(right)}"
        return _first(difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(left, right, strict=True)))
    both_nan = isinstance(left, float) and math.isnan(left) and math.isnan(right)
    return None if both_nan or left == right else f"{where}{left!r} instead of {right!r}"


def _difference_of_tensors(left: Tensor, right: Tensor) -> str | None:
    if (left.dtype, left.shape) != (right.dtype, right.shape):
        kinds = [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in (left, right)]
        return f"{kinds[0]} instead of {kinds[1]}"
    left, right = left.detach(), right.detach()
    differs = left != right
    if left.is_floating_point():
        differs &= ~(left.isnan() & right.isnan())
    count = int(differs.sum())
    if count == 0:
        return None
    largest = float((left.double() - right.double())[differs].abs().max()) if not left.is_complex() else 0.0
    return f"{count} of {left.numel()} numbers differ, by up to {largest:.3g}"


def _first(found: Any) -> str | None:
    return next((each for each in found if each is not None), None)
