from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from setwise.testing.fixtures import step_context
from setwise.testing.randomness import expect_no_global_randomness, seeded


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_seeded_gives_the_same_draws_and_leaves_the_generators_as_they_were() -> None:
    with seeded(3):
        before = draws()
        with seeded(5):
            first = draws()
        with seeded(5):
            again = draws()
        after = draws()
    with seeded(3):
        undisturbed = [draws(), draws()]

    assert first == again
    assert [before, after] == undisturbed


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        (random.random, "it must not depend on global randomness, it does on that of Python"),
        (np.random.rand, "it must use no global randomness, it drew from or seeded that of NumPy"),
        (lambda: torch.rand(()), "it must use no global randomness, it drew from or seeded that of torch"),
        (lambda: torch.manual_seed(3).initial_seed(), "it must use no global randomness, it drew from or seeded"),
        (lambda: torch.initial_seed(), "it must not depend on global randomness, it does on that of torch"),
        (lambda: np.random.get_state()[1], "it must not depend on global randomness, it does on that of NumPy"),
        (np.random.default_rng().random, "it must give one result, two calls differ"),
    ],
)
def test_global_randomness_is_noticed(compute: Callable[[], Any], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        expect_no_global_randomness("it", compute)


def test_own_generators_are_no_global_randomness() -> None:
    expect_no_global_randomness("it", lambda: torch.rand((), generator=torch.Generator().manual_seed(0)))


def test_drawing_from_python_without_effect_is_no_global_randomness() -> None:
    expect_no_global_randomness("it", lambda: 0 * random.randrange(7))


def test_step_context_is_that_of_the_trainer() -> None:
    training = step_context(range(3), step=37)
    evaluation = step_context(range(2, 5), split="val", seed=7)

    assert (training.training, training.step, training.progress) == (True, 37, 0.37)
    assert (evaluation.training, evaluation.step, evaluation.progress) == (False, 0, 1.0)
    assert evaluation.generator(1).initial_seed() == step_context([3], split="val", seed=7).generator(0).initial_seed()


def test_kit_without_pytest_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    monkeypatch.delitem(sys.modules, "setwise.testing")

    with pytest.raises(ModuleNotFoundError, match=r"setwise\.testing needs pytest; run: pip install pytest"):
        importlib.import_module("setwise.testing")
