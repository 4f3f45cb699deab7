"""The random generators that a whole process shares: Python's, NumPy's and torch's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from setwise.testing.claims import difference, expect, expect_equal


class _Generator(NamedTuple):
    """One of the random generators that a whole process shares."""

    get: Callable[[], Any]
    set: Callable[[Any], Any]
    seed: Callable[[int], Any]


_GENERATORS = {
    "Python (random)": _Generator(random.getstate, random.setstate, random.seed),
    "NumPy (numpy.random)": _Generator(np.random.get_state, np.random.set_state, np.random.seed),
    "torch": _Generator(torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed),
}
# Python's is left out: libraries that check types at run time draw from it, without effect on any result.
_UNTOUCHED = ("NumPy (numpy.random)", "torch")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch, and put them back at the end.

    Example:
        >>> with seeded(3):
        ...     first = torch.rand(())
        >>> with seeded(3):
        ...     bool(torch.rand(()) == first)
        True
    """
    saved = [(each, each.get()) for each in _GENERATORS.values()]
    for each in _GENERATORS.values():
        each.seed(seed)
    try:
        yield
    finally:
        for each, state in saved:
            each.set(state)


def expect_no_global_randomness(what: str, compute: Callable[[], Any]) -> None:
    """Fail if a result changes from call to call, with a generator that the whole process shares, or changes one.

    Args:
        what: who promises not to.
        compute: returns what :func:`~setwise.testing.claims.expect_equal` can compare.

    Raises:
        AssertionError: it does; the message says whose generator it is.

    Example:
        >>> expect_no_global_randomness("a dice", lambda: random.randrange(1, 10**9))
        Traceback (most recent call last):
        AssertionError: a dice must not depend on global randomness, it does on that of Python (random): ...
    """
    with seeded(0):
        before = {name: _GENERATORS[name].get() for name in _UNTOUCHED}
        first = compute()
        for name, state in before.items():
            untouched = difference(_GENERATORS[name].get(), state) is None
            expect(untouched, f"{what} must use no global randomness, it drew from or seeded that of {name}")
    with seeded(0):
        expect_equal(compute(), first, f"{what} must give one result, two calls differ")
    for name, generator in _GENERATORS.items():
        with seeded(0):
            generator.seed(1)
            broken = f"{what} must not depend on global randomness, it does on that of {name}"
            expect_equal(compute(), first, broken)
