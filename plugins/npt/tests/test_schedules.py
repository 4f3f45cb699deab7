"""Learning-rate schedules against the published code."""

from __future__ import annotations

import pytest
import torch

from setwise_npt.config import FlatAndAnnealOptions, WarmupOptions
from setwise_npt.schedules import cosine_cyclic, flat_and_anneal, linear_warmup, polynomial_decay_warmup

_WARMING_UP = {
    "linear_warmup": linear_warmup,
    "polynomial_decay_warmup": polynomial_decay_warmup,
    "cosine_cyclic": cosine_cyclic,
}


def test_learning_rates_equal_the_published_ones(schedules_golden):
    for name, case in schedules_golden.config["lr"].items():
        steps = {"num_steps": case["total_steps"], "lr": case["base_lr"]}
        if case["name"] == "constant":  # setwise/constant
            continue
        if case["name"] == "flat_and_anneal":
            schedule = flat_and_anneal(FlatAndAnnealOptions(flat=case["proportion"]), **steps)
        else:
            fixed = case["proportion"] == -1
            share = {"warmup_steps": case["fixed_warmup"]} if fixed else {"warmup": case["proportion"]}
            schedule = _WARMING_UP[case["name"]](WarmupOptions(**share), **steps)
        rates = torch.tensor([schedule(step) for step in range(case["total_steps"])], dtype=torch.float64)
        torch.testing.assert_close(rates, schedules_golden.tensors[f"lr.{name}"], atol=1e-12, rtol=0, msg=name)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
@pytest.mark.parametrize("flat", [0.0, 0.7, 0.95, 1.0])
def test_flat_and_anneal_takes_few_steps_and_any_share(num_steps: int, flat: float):
    schedule = flat_and_anneal(FlatAndAnnealOptions(flat=flat), num_steps=num_steps, lr=3.0)
    rates = [schedule(step) for step in range(num_steps)]
    assert rates[0] == 3.0
    assert all(0 <= rate <= 3.0 for rate in rates)


@pytest.mark.parametrize("build", _WARMING_UP.values(), ids=_WARMING_UP)
@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_no_warm_up_and_nothing_else_are_both_possible(build, warmup: float):
    schedule = build(WarmupOptions(warmup=warmup), num_steps=5, lr=3.0)
    rates = [schedule(step) for step in range(6)]
    assert all(0 <= rate <= 3.0 for rate in rates)
    assert max(rates) > 2
