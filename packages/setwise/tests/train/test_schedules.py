from __future__ import annotations

import math

import pytest

from setwise.options import DecayOptions, WarmupOptions
from setwise.train.schedules import build_constant, build_cosine, build_linear


def test_warmup_rises_to_the_learning_rate() -> None:
    schedule = build_constant(WarmupOptions(warmup_steps=3), num_steps=7, lr=0.4)
    assert [schedule(step) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_a_fraction_of_the_steps_is_the_same_warmup() -> None:
    by_steps = build_linear(DecayOptions(warmup_steps=2), num_steps=11, lr=1.0)
    by_fraction = build_linear(DecayOptions(warmup_fraction=2 / 11), num_steps=11, lr=1.0)
    assert [by_steps(s) for s in range(11)] == [by_fraction(s) for s in range(11)]


def test_linear_reaches_the_final_fraction_at_the_last_step() -> None:
    schedule = build_linear(DecayOptions(final_fraction=0.2), num_steps=5, lr=10.0)
    assert [schedule(step) for step in range(5)] == pytest.approx([10.0, 8.0, 6.0, 4.0, 2.0])


def test_cosine_is_half_a_period() -> None:
    schedule = build_cosine(DecayOptions(final_fraction=0.5), num_steps=5, lr=2.0)
    expected = [1.5 + 0.5 * math.cos(math.pi * share) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert [schedule(step) for step in range(5)] == pytest.approx(expected)
    assert schedule(50) == pytest.approx(1.0)  # trained on for longer than planned


@pytest.mark.parametrize("build", [build_linear, build_cosine])
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_learning_rate(build, num_steps: int) -> None:
    schedule = build(DecayOptions(warmup_steps=1, final_fraction=0.1), num_steps=num_steps, lr=1.0)
    assert all(0 < schedule(step) <= 1 for step in range(num_steps))
