"""What a task is: the owner of the loss, of its randomness, and of the metrics and predictions that go with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from setwise.errors import SetwiseError
from setwise.seeding import derive_seed

if TYPE_CHECKING:
    from torchmetrics import Metric


@dataclass(frozen=True)
class StepContext:
    """Where a batch stands in the run.

    Attributes:
        step: number of optimizer steps finished before this one; 0 in evaluation and prediction, so that
            randomness of an objective is the same at every evaluation.
        epoch: pass over the training data this batch belongs to.
        progress: share of the training that is done, in [0, 1].
        split: ``"train"``, ``"val"``, ``"test"``, or ``"predict"``.
        training: whether the batch updates the model.
        seed: seed of the run.
        positions: position of each item of the batch within the global batch (training) or the split (evaluation).
    """

    step: int
    epoch: int
    progress: float
    split: str
    training: bool
    seed: int
    positions: Sequence[int]

    def generator(self, item: int) -> torch.Generator:
        """Return a fresh CPU generator for the batch's item number ``item``.

        It is a function of (seed, split, step, the item's position in the global batch), so what is drawn from it
        does not depend on micro-batches or on the number of processes.
        """
        seed = derive_seed(self.seed, "task", self.split, self.step, int(self.positions[item]))
        return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class StepOutput:
    """What a task returns for a batch. The Trainer alone divides ``loss_sum`` by the summed ``weight``.

    Attributes:
        loss_sum: scalar, the loss summed over the units the loss is a mean over.
        weight: number of those units (rows, tokens, pixels, sets), a scalar tensor or a number.
        metrics: update arguments for the metrics of ``task.metrics(split)``, by name; read in evaluation only.
        scalars: detached scalars shown in the log as they are.
    """

    loss_sum: Tensor
    weight: Tensor | float
    metrics: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    scalars: Mapping[str, Tensor] = field(default_factory=dict)


class AbstractTask(ABC):
    """A loss with its metrics and predictions, over a model that is any ``nn.Module``."""

    @abstractmethod
    def step(self, model: nn.Module, batch: Any, ctx: StepContext) -> StepOutput:
        """Run the model on a batch and return its loss.

        Args:
            model: the model, possibly wrapped for several processes: call it, do not reach into it.
            batch: what the data module's ``collate`` returned, on the model's device.
            ctx: where the batch stands in the run.
        """

    @abstractmethod
    def metrics(self, split: str) -> Mapping[str, Metric]:
        """Return fresh torchmetrics for an evaluation of ``split``. The name ``loss`` is the Trainer's own."""

    def predict(self, model: nn.Module, batch: Any, ctx: StepContext) -> dict[str, Tensor]:
        """Return predictions for a batch as columns: name to (rows, ...) tensors.

        Raises:
            SetwiseError: the task has no predictions to write to a table.
        """
        raise SetwiseError(f"{type(self).__name__} has no table of predictions; use its model from Python")

    def decode(self, predictions: Mapping[str, Tensor]) -> dict[str, Any]:
        """Turn the concatenated columns of :meth:`predict` into columns for a person: labels, units of the data."""
        return {name: column.tolist() for name, column in predictions.items()}
