"""Regression: squared error over continuous targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from setwise.data.spec import Continuous, DataSpec
from setwise.options import RegressionOptions
from setwise.tasks.supervised import is_table, table_inputs, targets_of_kind
from setwise.tasks.task import AbstractTask, StepContext, StepOutput

if TYPE_CHECKING:
    from torchmetrics import Metric


@final
class Regression(AbstractTask):
    """Squared error in standardised units, a mean over target values that are there; metrics in units of the data.

    The model is called like that of :class:`~setwise.tasks.classification.Classification` and returns standardised
    values (batch, targets).

    Args:
        data: all targets are continuous.

    Raises:
        ConfigError: the data has no, or another kind of, target.

    Example:
        >>> from setwise.data.spec import Continuous
        >>> sorted(Regression(DataSpec((Continuous("size"),), (Continuous("price"),))).metrics("val"))
        ['mae', 'rmse']
    """

    def __init__(self, data: DataSpec) -> None:
        self.data = data
        self.targets = targets_of_kind(data, Continuous, "regression")

    def step(self, model: nn.Module, batch: Any, ctx: StepContext) -> StepOutput:
        """Return the squared error summed over observed target values, and their number."""
        inputs, truth, observed = self._take_apart(batch)
        predicted = model(**inputs).float()
        loss = ((predicted - truth).square() * observed).sum()
        metrics: dict[str, tuple[Any, ...]] = {}
        if not ctx.training:
            std = torch.tensor([field.std for field in self.targets], device=truth.device)
            pair = ((predicted * std)[observed], (truth * std)[observed])
            metrics = {"rmse": pair, "mae": pair}
        return StepOutput(loss, observed.sum(), metrics)

    def metrics(self, split: str) -> Mapping[str, Metric]:
        """Return root mean squared error and mean absolute error, in the units of the data."""
        from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

        return {"rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError()}

    def predict(self, model: nn.Module, batch: Any, ctx: StepContext) -> dict[str, Tensor]:
        """Return ``value``: (batch, targets), standardised."""
        inputs, _, _ = self._take_apart(batch)
        return {"value": model(**inputs).float()}

    def decode(self, predictions: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return a column ``predicted_<target>`` for each target, in the units of the data."""
        value = predictions["value"].double()
        return {
            f"predicted_{field.name}": (value[:, index] * field.std + field.mean).tolist()
            for index, field in enumerate(self.targets)
        }

    def _take_apart(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        if is_table(batch):
            first = len(self.data.inputs)
            return table_inputs(batch, self.data), batch["values"][:, first:], ~batch["missing"][:, first:]
        truth = torch.stack([batch[field.name] for field in self.targets], dim=-1)
        return (
            {field.name: batch[field.name] for field in self.data.inputs},
            truth,
            torch.ones_like(truth, dtype=torch.bool),
        )


def build(options: RegressionOptions, *, data: DataSpec) -> Regression:
    """Build the task from its options."""
    return Regression(data)
