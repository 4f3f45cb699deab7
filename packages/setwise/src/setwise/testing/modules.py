"""What is promised of every ``nn.Module``, whatever it computes."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from setwise.testing.claims import expect
from setwise.testing.randomness import seeded
from setwise.train.checkpoint import CheckpointStore

_PERTURBATION = 0.02


@torch.no_grad()
def leave_initial_point(module: nn.Module) -> None:
    """Move all parameters a little.

    Weights that start at zero hide the gradients behind them; away from the initial point only dead ones do.
    """
    with seeded(1):
        for parameter in module.parameters():
            parameter.add_(_PERTURBATION * torch.randn_like(parameter))


def expect_gradients_everywhere(module: nn.Module, *, exempt: Collection[str]) -> None:
    """Fail unless every parameter has a finite gradient that is not zero.

    Args:
        module: after a backward pass.
        exempt: names or patterns (``"*.key.bias"``) of parameters that the result does not depend on by construction.

    Raises:
        AssertionError: one has not.
    """
    parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
    exempted = {pattern: fnmatch.filter(parameters, pattern) for pattern in exempt}
    for pattern, names in exempted.items():
        expect(bool(names), f'without_gradient lists "{pattern}", which fits no parameter: {", ".join(parameters)}')
    expect_finite_gradients({name: each.grad for name, each in parameters.items()}, "everywhere")
    passed_over = set(chain.from_iterable(exempted.values()))
    advice = "use it, remove it, freeze it with requires_grad=False, or list it in without_gradient if that is right"
    for name, parameter in parameters.items():
        reached = parameter.grad is not None and bool(parameter.grad.count_nonzero())
        expect(reached or name in passed_over, f"no gradient reaches the parameter {name}; {advice}")


def expect_finite_gradients(gradients: Mapping[str, Tensor | None], when: str) -> None:
    """Fail unless the gradients that exist are finite.

    Raises:
        AssertionError: one is not.
    """
    for name, gradient in gradients.items():
        finite = gradient is None or bool(gradient.isfinite().all())
        expect(finite, f"the gradient of {name} is not finite {when}")


def expect_apart(first: nn.Module, second: nn.Module, what: str) -> None:
    """Fail if two modules share the memory of a parameter or a buffer.

    Raises:
        AssertionError: they do.
    """
    owners = {_memory(tensor): name for name, tensor in _tensors(first).items() if tensor.numel()}
    for name, tensor in _tensors(second).items():
        shared = owners.get(_memory(tensor)) if tensor.numel() else None
        expect(shared is None, f"{what} share the memory of {shared} and {name}; each must have its own")


def load_through_checkpoint(source: nn.Module, target: nn.Module, folder: Path) -> None:
    """Write the state of one module to a checkpoint and load it into another.

    Raises:
        AssertionError: the target, which was built in the same way, does not take it.
    """
    store = CheckpointStore(folder)
    store.save(0, model=source.state_dict(), optimizer=None, state={})
    try:
        target.load_state_dict(store.load(0).model)
    except RuntimeError as error:
        raise AssertionError(f"the state_dict does not fit a module that was built in the same way: {error}") from error


def train_a_little(module: nn.Module, loss: Tensor) -> None:
    """Take one step of gradient descent, so that parameters, and statistics that a module keeps, leave their start."""
    module.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)
    module.zero_grad()


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _memory(tensor: Tensor) -> tuple[str, int]:
    return str(tensor.device), tensor.untyped_storage().data_ptr()
