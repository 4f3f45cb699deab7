"""LAMB and Lookahead against the published code, and what a resumed run needs of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from setwise_npt.config import LambOptions, LookaheadAdamOptions, LookaheadOptions
from setwise_npt.optim import Lamb, Lookahead, build_lamb, build_lookahead_adam

Build = Callable[[list[nn.Parameter]], Optimizer]


def _lamb(params: list[nn.Parameter]) -> Optimizer:
    return build_lamb(LambOptions(lr=0.1, lookahead=LookaheadOptions(steps=3)), params=[{"params": params}])


def _adam(params: list[nn.Parameter]) -> Optimizer:
    options = LookaheadAdamOptions(lr=0.1, lookahead=LookaheadOptions(steps=3, start="initial"))
    return build_lookahead_adam(options, params=[{"params": params}])


def _params(*shapes: tuple[int, ...], seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def _step(optimizer: Optimizer, params: list[nn.Parameter], number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    optimizer.step()


def test_parameters_after_every_step_equal_the_published_ones(optimiser_golden):
    config, tensors = optimiser_golden.config, optimiser_golden.tensors
    lookahead = LookaheadOptions(steps=config["lookahead_k"], alpha=config["lookahead_alpha"])
    common: dict[str, Any] = {key: config[key] for key in ("lr", "eps", "weight_decay")}
    params = [nn.Parameter(tensors[f"p{i}.init"].clone()) for i in range(config["n_params"])]
    common |= {"betas": tuple(config["betas"]), "lookahead": lookahead if config["lookahead"] else None}
    if config["lamb"]:
        optimizer = build_lamb(LambOptions(**common), params=[{"params": params}])
    else:
        optimizer = build_lookahead_adam(LookaheadAdamOptions(**common), params=[{"params": params}])
    for step in range(config["steps"]):
        for i, param in enumerate(params):
            param.grad = tensors[f"p{i}.grad.{step}"].clamp(-config["clip_value"], config["clip_value"])
        optimizer.step()
        for i, param in enumerate(params):
            torch.testing.assert_close(param.detach(), tensors[f"p{i}.after.{step}"], atol=1e-6, rtol=0)


def _lamb_by_hand(param: Tensor, gradients: list[Tensor], *, lr: float, decay: float) -> Tensor:
    mean, square = torch.zeros_like(param), torch.zeros_like(param)
    for gradient in gradients:
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        update = mean / (square.sqrt() + 1e-6) + decay * param
        ratio = min(param.norm().item(), 10.0) / update.norm().item() if param.norm() > 0 and update.norm() > 0 else 1.0
        param = param - lr * ratio * update
    return param


@pytest.mark.parametrize("size", [0.0, 1.0, 100.0], ids=["zero", "small", "beyond_the_largest_norm"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lamb_follows_its_formula(size: float, decay: float):
    start = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * size
    gradients = [torch.randn(5, 7, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    param = nn.Parameter(start.clone())
    optimizer = Lamb([param], lr=0.01, weight_decay=decay)
    for gradient in gradients:
        param.grad = gradient
        optimizer.step()
    torch.testing.assert_close(param.detach(), _lamb_by_hand(start, gradients, lr=0.01, decay=decay))


def test_a_gradient_of_zero_changes_nothing_and_stays_finite():
    param = nn.Parameter(torch.ones(3))
    optimizer = Lamb([param], lr=0.1)
    param.grad = torch.zeros(3)
    optimizer.step()
    assert param.tolist() == [1, 1, 1]


def test_groups_have_their_own_options_and_parameters_without_gradient_stay():
    (fast,), (slow,), (frozen,) = _params((5,)), _params((5,)), _params((5,))
    optimizer = Lamb([{"params": [fast, frozen], "lr": 0.2}, {"params": [slow], "lr": 0.1}])
    before = fast.detach().clone()
    fast.grad = slow.grad = torch.ones(5)
    optimizer.step()
    torch.testing.assert_close(fast - before, 2 * (slow - before))
    assert frozen.equal(before)


@pytest.mark.parametrize(("start", "expected"), [("initial", [-1, -1, -2, -2]), ("first_sync", [-1, -2, -3, -3])])
def test_slow_weights_start_where_they_are_told_to(start: Literal["initial", "first_sync"], expected: list[float]):
    param = nn.Parameter(torch.zeros(1))
    optimizer = Lookahead(SGD([param], lr=1.0), steps=2, start=start)
    path = []
    for _ in range(4):
        param.grad = torch.ones(1)
        optimizer.step()
        path.append(param.item())
    assert path == expected


@pytest.mark.parametrize("build", [_lamb, _adam])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_loaded_state_goes_on_to_the_same_bits(build: Build, stop: int):
    shapes = ((5, 3), (7,), ())
    undisturbed = _params(*shapes)
    optimizer = build(undisturbed)
    for number in range(11):
        _step(optimizer, undisturbed, number)
    first = _params(*shapes)
    optimizer = build(first)
    for number in range(stop):
        _step(optimizer, first, number)
    second = [nn.Parameter(param.detach().clone()) for param in first]
    resumed = build(second)
    resumed.load_state_dict(optimizer.state_dict())
    for number in range(stop, 11):
        _step(resumed, second, number)
    for ours, expected in zip(second, undisturbed, strict=True):
        assert ours.equal(expected)


@pytest.mark.parametrize("build", [_lamb, _adam])
def test_the_learning_rate_of_a_loaded_optimizer_can_be_set(build: Build):
    params = _params((5,))
    optimizer = build(params)
    _step(optimizer, params, 0)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.param_groups[0]["lr"] = 0.0
    before = params[0].detach().clone()
    _step(optimizer, params, 1)
    assert params[0].equal(before)


@pytest.mark.parametrize("start", ["initial", "first_sync"])
def test_a_parameter_that_gets_its_first_gradient_late_is_taken_up(start: Literal["initial", "first_sync"]):
    early, late = _params((5,), (3,))
    optimizer = Lookahead(Adam([early, late], lr=0.1), steps=2, start=start)
    for number in range(5):
        _step(optimizer, [early], number)
    before = late.detach().clone()
    for number in range(5, 10):
        _step(optimizer, [early, late], number)
    assert late.ne(before).all()
    assert late.isfinite().all()


@pytest.mark.parametrize("build", [_lamb, _adam])
def test_a_closure_is_called_with_gradients_on_and_its_loss_returned(build: Build):
    (param,) = params = _params((5,))
    optimizer = build(params)

    def closure() -> float:
        loss = param.square().sum()
        loss.backward()
        return loss.item()

    before = param.detach().clone()
    assert optimizer.step(closure) == before.square().sum().item()
    assert param.ne(before).all()


def test_lamb_without_lookahead_is_lamb():
    assert type(build_lamb(LambOptions(lookahead=None), params=[{"params": _params((3,))}])) is Lamb
