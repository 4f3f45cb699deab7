from __future__ import annotations

import pytest
import torch
from torch import nn

from setwise.options import AdamOptions, AdamWOptions, SGDOptions
from setwise.train.optim import build_adam, build_adamw, build_sgd, parameter_groups


@pytest.mark.parametrize(
    ("build", "options", "expected"),
    [
        (build_adam, AdamOptions(lr=0.5, weight_decay=0.0), [0.5, 1.5]),  # the first step has length lr
        (build_adamw, AdamWOptions(lr=0.5, weight_decay=0.1), [0.45, 1.4]),  # and decay takes lr * 0.1 of the weight
        (build_sgd, SGDOptions(lr=0.5), [0.0, 1.75]),
        (build_sgd, SGDOptions(lr=0.5, weight_decay=1.0), [-0.5, 0.75]),
    ],
)
def test_one_step_of_each(build, options, expected: list[float]) -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    weight.grad = torch.tensor([2.0, 0.5])
    build(options, params=[{"params": [weight]}]).step()
    torch.testing.assert_close(weight.data, torch.tensor(expected))


def test_nesterov_momentum_looks_ahead() -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    optimizer = build_sgd(SGDOptions(lr=1.0, momentum=0.5, nesterov=True), params=[{"params": [weight]}])
    weight.grad = torch.tensor([1.0])
    optimizer.step()
    assert weight.item() == -1.5


def test_frozen_parameters_are_left_out_and_a_model_may_say_its_own_groups() -> None:
    model = nn.Linear(2, 3)
    model.bias.requires_grad_(False)
    (group,) = parameter_groups(model)
    assert [p.shape for p in group["params"]] == [(3, 2)]

    class Grouped(nn.Linear):
        def parameter_groups(self) -> list[dict]:
            return [{"params": [self.weight], "lr": 0.1}, {"params": [self.bias], "lr": 0.2}]

    assert [group["lr"] for group in parameter_groups(Grouped(2, 3))] == [0.1, 0.2]
