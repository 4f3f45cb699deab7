"""The suite of models passes a sound model, and each of its tests fails on one with one fault, naming it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from setwise.data.dataset import AbstractDataModule
from setwise.data.spec import DataSpec
from setwise.data.tabular import TableData
from setwise.errors import ConfigError
from setwise.testing import ModelSuite


class Sound(nn.Module):
    """A small network over standardised columns, with dropout, that counts on a random offset."""

    def __init__(self, num_columns: int) -> None:
        super().__init__()
        self.read = nn.Linear(num_columns, 17)
        self.dropout = nn.Dropout(0.1)
        self.write = nn.Linear(17, 1)
        self.register_buffer("offset", torch.randn(num_columns))

    def forward(self, values: Tensor, codes: Tensor, missing: Tensor) -> Tensor:
        return self.write(self.dropout(self.read(values + self.offset).tanh()))


class WithDeadParameter(Sound):
    def __init__(self, num_columns: int) -> None:
        super().__init__(num_columns)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        return super().forward(values, **inputs) + 0 * self.gate


class WithInfiniteGradient(Sound):
    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        return super().forward(values, **inputs) + (0 * self.write.bias).sqrt()


class StartingAtZero(Sound):
    """Sound: what multiplies a weight of zero learns after the first step."""

    def __init__(self, num_columns: int) -> None:
        super().__init__(num_columns)
        nn.init.zeros_(self.write.weight)


class DroppingBuffer(Sound):
    def __init__(self, num_columns: int) -> None:
        super().__init__(num_columns)
        self.register_buffer("offset", torch.randn(num_columns), persistent=False)


class KeepingStateAside(Sound):
    """Normalises with a running mean that is no buffer."""

    mean: Tensor | float = 0.0

    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + values.mean(0)
        return super().forward(values - self.mean, **inputs)


class Disconnected(Sound):
    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(values), **inputs)


class LosingDigits(Sound):
    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        return super().forward(values, **inputs) + 300 - 300


class OverflowingBackward(Sound):
    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        out = super().forward(values, **inputs)
        if out.dtype == torch.bfloat16:
            out.register_hook(lambda gradient: gradient / 0)
        return out


class WithWeightsFromTheMachine(Sound):
    def __init__(self, num_columns: int) -> None:
        super().__init__(num_columns)
        self.offset.copy_(torch.from_numpy(np.random.default_rng().standard_normal(num_columns)))


class WithWeightsFromNumPy(Sound):
    def __init__(self, num_columns: int) -> None:
        super().__init__(num_columns)
        self.offset.copy_(torch.from_numpy(np.random.standard_normal(num_columns)))


class DroppingInEvaluation(Sound):
    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(values, 0.1), **inputs)


class DrawingFromPython(Sound):
    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        return super().forward(values, **inputs) + random.random()


class CountingCalls(Sound):
    calls = 0

    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(values, **inputs) / self.calls


class SharingMemory(Sound):
    shared: ClassVar = nn.Linear(17, 1)

    def __init__(self, num_columns: int) -> None:
        super().__init__(num_columns)
        self.write = self.shared


class RememberingForAll(Sound):
    means: ClassVar[list[Tensor]] = []

    def forward(self, values: Tensor, **inputs: Tensor) -> Tensor:
        if self.training:
            self.means.append(values.mean())
        return super().forward(values, **inputs) + len(self.means)


class CopyingItself(Sound):
    def __deepcopy__(self, memo: Any) -> Sound:
        return self


class ForgettingWhenCopied(Sound):
    def __deepcopy__(self, memo: Any) -> Sound:
        return ForgettingWhenCopied(self.read.in_features)


class Growing(Sound):
    """Has other shapes in every instance."""

    built = 0

    def __init__(self, num_columns: int) -> None:
        super().__init__(num_columns)
        Growing.built += 1
        self.extra = nn.Parameter(torch.zeros(Growing.built))


class OnTable(ModelSuite):
    task = "setwise/regression"
    overfit_steps = 60

    def build_data(self) -> AbstractDataModule:
        values = np.random.default_rng(0).standard_normal((29, 4))
        frame = pd.DataFrame(values, columns=["a", "b", "c", "target"])
        return TableData.from_frame(frame, target="target", val_fraction=0.3, test_fraction=0.1)


def suite_of(model: Callable[[int], nn.Module]) -> ModelSuite:
    class Suite(OnTable):
        def build_model(self, data: DataSpec) -> nn.Module:
            return model(len(data.inputs))

    return Suite()


class TestSound(OnTable):
    def build_model(self, data: DataSpec) -> nn.Module:
        return Sound(len(data.inputs))


class TestStartingAtZero(OnTable):
    def build_model(self, data: DataSpec) -> nn.Module:
        return StartingAtZero(len(data.inputs))


class Fault(NamedTuple):
    """A model that breaks a promise, and what a test of the suite has to say of it."""

    model: type[Sound]
    words: str


FAULTS = {
    "test_gradients_are_finite_and_reach_every_parameter": [
        Fault(WithDeadParameter, "no gradient reaches the parameter gate"),
        Fault(WithInfiniteGradient, "the gradient of write.bias is not finite everywhere"),
    ],
    "test_state_survives_a_checkpoint": [
        Fault(DroppingBuffer, "state_dict() must hold all that the result depends on; a loaded model differs"),
        Fault(KeepingStateAside, "state_dict() must hold all that the result depends on; a loaded model differs"),
    ],
    "test_overfits_one_batch": [Fault(Disconnected, "the loss of one batch fell from")],
    "test_bf16_is_finite_and_close": [
        Fault(LosingDigits, "the loss in bf16-mixed precision is off"),
        Fault(OverflowingBackward, "the gradient of read.weight is not finite in bf16-mixed precision"),
    ],
    "test_weights_and_training_are_functions_of_the_seed": [
        Fault(WithWeightsFromTheMachine, "two models with one seed differ after building and one step: at offset"),
    ],
    "test_weights_are_drawn_with_torch": [
        Fault(WithWeightsFromNumPy, "initial weights must depend on torch's generator alone ... at offset"),
    ],
    "test_evaluation_is_deterministic_and_uses_no_global_randomness": [
        Fault(DroppingInEvaluation, "a model in evaluation mode must use no global randomness ... torch"),
        Fault(
            DrawingFromPython,
            "a model in evaluation mode must not depend on global randomness, it does on that of Python",
        ),
        Fault(CountingCalls, "a model in evaluation mode must give one result, two calls differ"),
    ],
    "test_instances_share_no_state": [
        Fault(SharingMemory, "two models share the memory of write.weight"),
        Fault(RememberingForAll, "training one model changed another; they share state"),
    ],
    "test_copy_is_equal_and_independent": [
        Fault(CopyingItself, "training a deep copy of the model changed the original"),
        Fault(ForgettingWhenCopied, "a deep copy of the model computes something else"),
    ],
    "test_is_built_from_the_stored_spec": [
        Fault(Growing, "a model built from the stored spec has other weights: at extra"),
    ],
}


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        pytest.param(test, fault, id=f"{fault.model.__name__}-{test}")
        for test, faults in FAULTS.items()
        for fault in faults
    ],
)
def test_fault_is_found_and_named(test: str, fault: Fault, expect_bite: Callable[..., None]) -> None:
    expect_bite(suite_of(fault.model), test, fault.words)


def test_every_test_of_the_suite_finds_a_fault(tests_of: Callable[[type], set[str]]) -> None:
    assert FAULTS.keys() == tests_of(ModelSuite)


def test_declared_parameter_needs_no_gradient(run_suite_test: Callable[..., None]) -> None:
    suite = suite_of(WithDeadParameter)
    type(suite).without_gradient = ("g*e",)

    run_suite_test(suite, "test_gradients_are_finite_and_reach_every_parameter")


def test_declaration_that_fits_no_parameter_is_found(expect_bite: Callable[..., None]) -> None:
    suite = suite_of(Sound)
    type(suite).without_gradient = ("*.key.bias",)

    words = 'without_gradient lists "*.key.bias", which fits no parameter: read.weight, '
    expect_bite(suite, "test_gradients_are_finite_and_reach_every_parameter", words)


def test_frozen_parameter_needs_no_gradient(run_suite_test: Callable[..., None]) -> None:
    class Frozen(WithDeadParameter):
        def __init__(self, num_columns: int) -> None:
            super().__init__(num_columns)
            self.gate.requires_grad_(False)

    run_suite_test(suite_of(Frozen), "test_gradients_are_finite_and_reach_every_parameter")


@pytest.mark.parametrize(
    ("missing", "method"), [("name", "build_model"), ("data", "build_data"), ("task", "build_task")]
)
def test_suite_that_does_not_say_what_to_test_says_so(missing: str, method: str) -> None:
    suite = type("TestMine", (ModelSuite,), {"name": "setwise/encoder", "data": "setwise/digits", missing: ""})()
    spec = OnTable().build_data()
    spec.prepare()

    with pytest.raises(ConfigError, match=f"TestMine does not say what to test with: set its attribute {missing}"):
        getattr(suite, method)(*[] if missing == "data" else [spec.spec])
