"""What the suites of models and tasks share: a model, a task and data that go together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from setwise.data.dataset import AbstractDataModule
from setwise.data.spec import DataSpec
from setwise.tasks.task import AbstractTask, StepOutput
from setwise.testing.component import AbstractComponentSuite
from setwise.testing.fixtures import Section, build_component, step_context
from setwise.testing.randomness import seeded


@dataclass(frozen=True)
class Situation:
    """A model and a task built for some prepared data, of which a few items are used.

    Attributes:
        num_items: items of a batch; of a split that has fewer, all.
    """

    data: AbstractDataModule
    task: AbstractTask
    model: nn.Module
    num_items: int

    def items(self, split: str = "train") -> list[int]:
        """Return the items of a split that are used."""
        return list(range(min(self.num_items, self.data.num_items(split))))

    def run(self, split: str = "train", *, part: Sequence[int] | None = None, step: int = 0) -> StepOutput:
        """Run the task on the items of a split, or on a part of them; the mode of the model stays what it is."""
        part = self.items(split) if part is None else part
        context = step_context(part, split=split, step=step)
        return self.task.step(self.model, self.data.batch(split, 0, part), context)

    def loss(self) -> Tensor:
        """Return the mean loss of the training items, as the Trainer would."""
        output = self.run()
        return output.loss_sum / float(output.weight)

    def evaluate(self, split: str) -> list[Any]:
        """Put the model into evaluation mode and return what the task makes of it."""
        self.model.eval()
        with torch.no_grad():
            return result_of(self.run(split))


def result_of(output: StepOutput) -> list[Any]:
    """Return what a step computed, for its bits to be compared."""
    return [output.loss_sum.detach(), float(output.weight), dict(output.metrics)]


class AbstractTrainingSuite(AbstractComponentSuite, ABC):
    """A suite that needs a model, data and a task, of which it tests one and takes the others as they are.

    Attributes:
        data: the data, named as in a recipe; or override :meth:`build_data`.
        num_items: items of a batch; of a split that has fewer, all.
        split: the split for evaluation; the training split serves for training.
    """

    data: ClassVar[Section] = ""
    num_items: ClassVar[int] = 5
    split: ClassVar[str] = "val"

    def build_data(self) -> AbstractDataModule:
        """Return the data, which need not be prepared."""
        return build_component("datasets", self.section("data", self.data), seed=0)

    @abstractmethod
    def build_model(self, data: DataSpec) -> nn.Module:
        """Return a model for the data."""

    @abstractmethod
    def build_task(self, data: DataSpec) -> AbstractTask:
        """Return a task for the data."""

    def situation(self, *, seed: int = 0) -> Situation:
        """Return a new model in training mode, whose weights are drawn with a seed, with the task and the data."""
        data = self.build_data()
        data.prepare()
        with seeded(seed):
            model = self.build_model(data.spec)
        return Situation(data, self.build_task(data.spec), model.train(), self.num_items)
