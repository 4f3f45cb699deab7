"""The suite of tasks passes a sound task, and each of its tests fails on one with one fault, naming it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from setwise.data.dataset import AbstractDataModule
from setwise.data.spec import DataSpec
from setwise.data.tabular import TableData
from setwise.errors import SetwiseError
from setwise.tasks.task import AbstractTask, StepContext, StepOutput
from setwise.testing import TaskSuite


class Linear(nn.Module):
    """Reads the standardised values of three columns."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(3, 1)

    def forward(self, values: Tensor) -> Tensor:
        return self.read(values).squeeze(-1)


class Sound(AbstractTask):
    """Squared error of the last column from the others, some of which are hidden at random."""

    def step(self, model: nn.Module, batch: Any, ctx: StepContext) -> StepOutput:
        values, target = batch["values"][:, :-1], batch["values"][:, -1]
        error = model(self.hide(values, ctx)) - target
        metrics = {} if ctx.training else {"bias": (error.detach(),)}
        return StepOutput(error.square().sum(), len(target), metrics, {"largest": error.detach().max()})

    def hide(self, values: Tensor, ctx: StepContext) -> Tensor:
        noise = torch.stack([torch.rand(3, generator=ctx.generator(item)) for item in range(len(values))])
        return values * (noise > 0.3)

    def metrics(self, split: str) -> Mapping[str, Metric]:
        return {"bias": MeanMetric()}

    def predict(self, model: nn.Module, batch: Any, ctx: StepContext) -> dict[str, Tensor]:
        return {"target": model(batch["values"][:, :-1])}


class OnModifiedOutput(Sound):
    """Changes what a sound step returns."""

    def step(self, model: nn.Module, batch: Any, ctx: StepContext) -> StepOutput:
        return self.modify(super().step(model, batch, ctx))

    def modify(self, output: StepOutput) -> StepOutput:
        raise TypeError("not sound by itself")


class WithLossPerItem(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, loss_sum=output.loss_sum[None])


class WithNanLoss(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, loss_sum=output.loss_sum * torch.nan)


class WithoutWeight(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, weight=0)


class WithDetachedLoss(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, loss_sum=output.loss_sum.detach())


class WithMisledGradient(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, loss_sum=torch.ones((), requires_grad=True) * output.loss_sum.detach())


class WithAttachedScalar(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, scalars={"loss": output.loss_sum})


class WithMeanInsteadOfSum(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, loss_sum=output.loss_sum / output.weight)


class WithWeightOfOne(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, loss_sum=output.loss_sum, weight=1)


class UpdatingAnUnknownMetric(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, metrics={**output.metrics, "accuracy": (1.0,)})


class UpdatingNoMetric(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, metrics={})


class WithInfiniteMetric(OnModifiedOutput):
    def modify(self, output: StepOutput) -> StepOutput:
        return replace(output, metrics={"bias": (torch.tensor(torch.inf),)})


class WithOneGeneratorForTheBatch(Sound):
    def hide(self, values: Tensor, ctx: StepContext) -> Tensor:
        return values * (torch.rand(values.shape, generator=ctx.generator(0)) > 0.3)


class IgnoringPositions(Sound):
    def hide(self, values: Tensor, ctx: StepContext) -> Tensor:
        return super().hide(values, replace(ctx, positions=range(len(values))))


class DrawingFromTorch(Sound):
    def hide(self, values: Tensor, ctx: StepContext) -> Tensor:
        return values * (torch.rand(values.shape) > 0.3)


class DrawingFromNumPy(Sound):
    def hide(self, values: Tensor, ctx: StepContext) -> Tensor:
        return values * float(np.random.rand() > 0.3)


class CountingCalls(Sound):
    calls = 0

    def hide(self, values: Tensor, ctx: StepContext) -> Tensor:
        self.calls += 1
        return values / self.calls


class WritingToBatch(Sound):
    def hide(self, values: Tensor, ctx: StepContext) -> Tensor:
        values[:, 0] = 0
        return values


class NamingTheLoss(Sound):
    def metrics(self, split: str) -> Mapping[str, Metric]:
        return {"loss": MeanMetric()}


class WithChangingNames(Sound):
    calls = 0

    def metrics(self, split: str) -> Mapping[str, Metric]:
        self.calls += 1
        return {f"bias{self.calls}": MeanMetric()}


class WithOneMetricForever(Sound):
    def __init__(self) -> None:
        self.metric = MeanMetric()

    def metrics(self, split: str) -> Mapping[str, Metric]:
        return {"bias": self.metric}


class WithRaggedColumns(Sound):
    def predict(self, model: nn.Module, batch: Any, ctx: StepContext) -> dict[str, Tensor]:
        column = model(batch["values"][:, :-1])
        return {"target": column, "best": column[:1]}


class DroppingRows(Sound):
    def decode(self, predictions: Mapping[str, Tensor]) -> dict[str, Any]:
        return {name: column.tolist()[1:] for name, column in predictions.items()}


class DecodingNothing(Sound):
    def decode(self, predictions: Mapping[str, Tensor]) -> dict[str, Any]:
        return {}


class WithoutPredictions(Sound):
    def predict(self, model: nn.Module, batch: Any, ctx: StepContext) -> dict[str, Tensor]:
        raise SetwiseError("no table")


def table() -> TableData:
    values = np.random.default_rng(0).standard_normal((23, 4))
    frame = pd.DataFrame(values, columns=["a", "b", "c", "target"])
    return TableData.from_frame(frame, target="target", val_fraction=0.3, test_fraction=0.1)


class OnTable(TaskSuite):
    def build_data(self) -> AbstractDataModule:
        return table()

    def build_model(self, data: DataSpec) -> nn.Module:
        return Linear()


def suite_of(task: Callable[[], AbstractTask]) -> TaskSuite:
    class Suite(OnTable):
        def build_task(self, data: DataSpec) -> AbstractTask:
            return task()

    return Suite()


class TestSound(OnTable):
    def build_task(self, data: DataSpec) -> AbstractTask:
        return Sound()


class Fault(NamedTuple):
    """A task that breaks a promise, what a test of the suite has to say of it, and what that test is called with."""

    task: type[Sound]
    words: str
    arguments: Mapping[str, Any] = {}


ONE_BY_ONE = {"part_size": 1}
FAULTS = {
    "test_loss_is_a_finite_scalar_with_a_gradient": [
        Fault(WithLossPerItem, "loss_sum must be a scalar, got shape (1,)"),
        Fault(WithNanLoss, "loss_sum is nan; it must be finite"),
        Fault(WithoutWeight, "weight is 0.0; it must count the units of the loss"),
        Fault(WithDetachedLoss, "loss_sum has no gradient"),
        Fault(WithMisledGradient, "the gradient of loss_sum reaches no parameter"),
        Fault(WithAttachedScalar, 'scalars["loss"] must be detached'),
    ],
    "test_loss_and_weight_of_a_batch_are_sums_over_its_parts": [
        Fault(WithMeanInsteadOfSum, "loss_sum of a batch must be the sum over its parts of 1 items", ONE_BY_ONE),
        Fault(WithWeightOfOne, "weight of a batch must be the sum over its parts of 2 items", {"part_size": 2}),
        Fault(WithOneGeneratorForTheBatch, "loss_sum of a batch must be the sum over its parts", ONE_BY_ONE),
        Fault(IgnoringPositions, "loss_sum of a batch must be the sum over its parts", ONE_BY_ONE),
    ],
    "test_randomness_comes_from_the_context_alone": [
        Fault(
            DrawingFromTorch,
            "step() of a task at step 0 must use no global randomness, it drew from or seeded that of torch",
        ),
        Fault(
            DrawingFromNumPy,
            "step() of a task at step 0 must use no global randomness, it drew from or seeded that of NumPy",
        ),
        Fault(CountingCalls, "step() of a task at step 0 must give one result, two calls differ: at [0]"),
    ],
    "test_evaluation_is_deterministic": [
        Fault(DrawingFromTorch, "step() of a task in evaluation must use no global randomness"),
        Fault(CountingCalls, "step() of a task in evaluation must give one result, two calls differ: at [0]"),
    ],
    "test_batch_is_not_written_to": [
        Fault(WritingToBatch, "step() must not write to the batch; it did on split train: at values"),
    ],
    "test_updates_have_the_names_of_metrics": [
        Fault(NamingTheLoss, 'metrics() names one "loss", which is the name of the Trainer\'s own'),
        Fault(WithChangingNames, "metrics() must return the same names at every call"),
        Fault(WithOneMetricForever, "metrics() must return fresh metrics at every call, it returned ['bias'] twice"),
        Fault(UpdatingAnUnknownMetric, "step() updates ['accuracy'], which metrics(\"val\") does not name"),
        Fault(UpdatingNoMetric, "metrics(\"val\") names ['bias'], which step() does not update"),
        Fault(WithInfiniteMetric, 'the metric "bias" is inf'),
    ],
    "test_predictions_are_columns_of_equal_length": [
        Fault(WithRaggedColumns, "columns of predict() must have equal lengths, got {'target': 5, 'best': 1}"),
        Fault(DroppingRows, "columns of decode() must have the 5 rows given, got {'target': 4}"),
        Fault(DecodingNothing, "decode() returned no column"),
    ],
}


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        pytest.param(test, fault, id=f"{fault.task.__name__}-{test}")
        for test, faults in FAULTS.items()
        for fault in faults
    ],
)
def test_fault_is_found_and_named(test: str, fault: Fault, expect_bite: Callable[..., None]) -> None:
    expect_bite(suite_of(fault.task), test, fault.words, **fault.arguments)


def test_every_test_of_the_suite_finds_a_fault(tests_of: Callable[[type], set[str]]) -> None:
    assert FAULTS.keys() == tests_of(TaskSuite)


def test_single_item_cannot_be_divided(expect_bite: Callable[..., None]) -> None:
    suite = suite_of(Sound)
    type(suite).num_items = 1

    expect_bite(
        suite,
        "test_loss_and_weight_of_a_batch_are_sums_over_its_parts",
        "has a single item, which has no parts",
        **ONE_BY_ONE,
    )


def test_task_may_have_no_predictions(run_suite_test: Callable[..., None]) -> None:
    with pytest.raises(pytest.skip.Exception, match="the task has no predictions: no table"):
        run_suite_test(suite_of(WithoutPredictions), "test_predictions_are_columns_of_equal_length")
