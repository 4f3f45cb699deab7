"""The conformance suite of tasks."""

from __future__ import annotations

import copy
import math
import warnings
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from setwise.data.spec import DataSpec
from setwise.errors import SetwiseError
from setwise.tasks.task import AbstractTask
from setwise.testing.claims import expect, expect_close, expect_equal
from setwise.testing.fixtures import Section, build_component, step_context
from setwise.testing.randomness import expect_no_global_randomness
from setwise.testing.training import AbstractTrainingSuite, Situation, result_of


class TaskSuite(AbstractTrainingSuite):
    """What every task promises, most of all that it sums what only the Trainer divides.

    Attributes:
        name: name of a registered task; or override :meth:`build_task`.
        options: its options, as in a recipe.
        data: data the task can be used with, named as in a recipe; or override :meth:`build_data`.
        model: a small model the task can be used with, named as in a recipe; or override :meth:`build_model`.
        num_items: items of a batch.
        split: the split for evaluation.
        steps: steps of a training of 100 at which the task is looked at.
        tolerance: rounding allowed where sums are taken in another order.

    Example:
        >>> class TestClassification(TaskSuite):
        ...     name = "setwise/classification"
        ...     data = {"name": "setwise/table", "sklearn": "iris"}
        ...     model = {"name": "setwise/encoder", "dim": 8, "num_layers": 1}
        >>> TestClassification().test_loss_and_weight_of_a_batch_are_sums_over_its_parts(part_size=1)
    """

    kind = "tasks"
    model: ClassVar[Section] = ""
    steps: ClassVar[tuple[int, ...]] = (0, 37)
    tolerance: ClassVar[float] = 1e-5

    def build_task(self, data: DataSpec) -> AbstractTask:
        """Return the task under test."""
        return self.component().build(data=data)

    def build_model(self, data: DataSpec) -> nn.Module:
        """Return the model that the task is tested with."""
        return build_component("models", self.section("model", self.model), data=data)

    def test_loss_is_a_finite_scalar_with_a_gradient(self) -> None:
        """``loss_sum`` is one finite number, the gradient of which reaches the model; ``weight`` is positive."""
        situation = self.situation()
        output = situation.run()
        loss, weight = output.loss_sum, float(output.weight)
        expect(loss.dim() == 0, f"loss_sum must be a scalar, got shape {tuple(loss.shape)}")
        expect(bool(loss.isfinite()), f"loss_sum is {loss.item()}; it must be finite")
        expect(weight > 0 and math.isfinite(weight), f"weight is {weight}; it must count the units of the loss")
        expect(loss.requires_grad, "loss_sum has no gradient; do not detach what the model returns")
        loss.backward()
        reached = any(p.grad is not None and bool(p.grad.count_nonzero()) for p in situation.model.parameters())
        expect(reached, "the gradient of loss_sum reaches no parameter of the model")
        for name, value in output.scalars.items():
            expect(not value.requires_grad, f'scalars["{name}"] must be detached, it keeps the whole graph alive')

    @pytest.mark.parametrize("part_size", [1, 2])
    def test_loss_and_weight_of_a_batch_are_sums_over_its_parts(self, part_size: int) -> None:
        """Micro-batches add up to the whole: loss, weight and gradients, with the context's positions of each item."""
        situation = self.situation()
        situation.model.eval()  # dropout draws once a forward pass, so it is left out of the comparison
        items = situation.items()
        expect(len(items) > 1, "the training split has a single item, which has no parts; test with smaller items")
        for step in self.steps:
            whole = _sums(situation, [items], step)
            summed = _sums(situation, [items[i : i + part_size] for i in range(0, len(items), part_size)], step)
            for name, value in whole.items():
                broken = f"{name} of a batch must be the sum over its parts of {part_size} items at step {step}"
                expect_close(summed[name], value, broken, tolerance=self.tolerance)

    def test_randomness_comes_from_the_context_alone(self) -> None:
        """``step`` draws from ``ctx.generator(item)`` only, so equal contexts give equal losses."""
        situation = self.situation()
        situation.model.eval()  # dropout may draw from the global generator
        for step in self.steps:
            run = partial(situation.run, step=step)
            expect_no_global_randomness(f"step() of a task at step {step}", lambda run=run: result_of(run()))

    def test_evaluation_is_deterministic(self) -> None:
        """Evaluations of one batch agree to the bit, in the loss and in all that metrics are updated with."""
        situation = self.situation()
        expect_no_global_randomness("step() of a task in evaluation", lambda: situation.evaluate(self.split))

    def test_batch_is_not_written_to(self) -> None:
        """``step`` leaves the batch as it is, which may be a view of the dataset."""
        situation = self.situation()
        for split in ("train", self.split):
            items = situation.items(split)
            batch = situation.data.batch(split, 0, items)
            before = copy.deepcopy(batch)
            situation.task.step(situation.model, batch, step_context(items, split=split))
            expect_equal(batch, before, f"step() must not write to the batch; it did on split {split}")

    def test_updates_have_the_names_of_metrics(self) -> None:
        """``step`` updates exactly the metrics of ``metrics(split)``, with arguments that they take."""
        situation = self.situation()
        situation.model.eval()
        metrics = dict(situation.task.metrics(self.split))
        again = situation.task.metrics(self.split)
        expect("loss" not in metrics, 'metrics() names one "loss", which is the name of the Trainer\'s own')
        expect(metrics.keys() == again.keys(), "metrics() must return the same names at every call")
        shared = [name for name in metrics if metrics[name] is again[name]]
        expect(not shared, f"metrics() must return fresh metrics at every call, it returned {shared} twice")
        with torch.no_grad():
            output = situation.run(self.split)
        unknown = sorted(output.metrics.keys() - metrics.keys())
        expect(not unknown, f'step() updates {unknown}, which metrics("{self.split}") does not name')
        never = sorted(metrics.keys() - output.metrics.keys())
        expect(not never, f'metrics("{self.split}") names {never}, which step() does not update')
        for name, arguments in output.metrics.items():
            with warnings.catch_warnings(action="ignore"):  # a few items may lack a class, of which metrics warn
                metrics[name].update(*arguments)
                value = float(metrics[name].compute())
            expect(not math.isinf(value), f'the metric "{name}" is {value}')

    def test_predictions_are_columns_of_equal_length(self) -> None:
        """``predict`` returns columns with one row per prediction, and ``decode`` keeps that number."""
        situation = self.situation()
        items = situation.items(self.split)
        batch, context = situation.data.batch(self.split, 0, items), step_context(items, split=self.split)
        with torch.no_grad():
            try:
                columns = situation.task.predict(situation.model.eval(), batch, context)
            except SetwiseError as error:
                pytest.skip(f"the task has no predictions: {error}")
        lengths = {name: len(column) for name, column in columns.items()}
        expect(len(set(lengths.values())) == 1, f"columns of predict() must have equal lengths, got {lengths}")
        [rows] = set(lengths.values())
        decoded = {name: len(column) for name, column in situation.task.decode(columns).items()}
        expect(bool(decoded), "decode() returned no column")
        expect(set(decoded.values()) == {rows}, f"columns of decode() must have the {rows} rows given, got {decoded}")


def _sums(situation: Situation, parts: list[list[int]], step: int) -> dict[str, Tensor]:
    """Return loss, weight and gradients of a batch, summed over its parts."""
    model = situation.model
    model.zero_grad()
    loss, weight = torch.zeros(()), torch.zeros(())
    for part in parts:
        output = situation.run(part=part, step=step)
        output.loss_sum.backward()
        loss = loss + output.loss_sum.detach()
        weight = weight + float(output.weight)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss_sum": loss, "weight": weight, **{f"the gradient of {name}": g for name, g in gradients.items()}}
