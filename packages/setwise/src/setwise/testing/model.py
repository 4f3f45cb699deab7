"""The conformance suite of models."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from setwise.data.spec import DataSpec
from setwise.device import autocast
from setwise.tasks.task import AbstractTask
from setwise.testing.claims import expect_close, expect_equal
from setwise.testing.fixtures import Section, build_component
from setwise.testing.modules import (
    expect_apart,
    expect_finite_gradients,
    expect_gradients_everywhere,
    leave_initial_point,
    load_through_checkpoint,
    train_a_little,
)
from setwise.testing.randomness import expect_no_global_randomness, seeded
from setwise.testing.training import AbstractTrainingSuite


class ModelSuite(AbstractTrainingSuite):
    """What every model promises: it learns, is a function of weights and batch, and survives being saved.

    The loss is that of a task, so the suite needs no knowledge of how the model is called.

    Attributes:
        name: name of a registered model; or override :meth:`build_model`.
        options: its options, as in a recipe. Choose a small one.
        data: data the model can be used with, named as in a recipe; or override :meth:`build_data`.
        task: a task the model can be used with, named as in a recipe; or override :meth:`build_task`.
        num_items: items of a batch.
        split: the split for evaluation.
        without_gradient: names or patterns of parameters that the loss does not depend on by construction.
        overfit_steps: Adam steps within which the loss of one batch has to fall below
        overfit_share: this share of what it was, at
        overfit_lr: this learning rate.
        bf16_tolerance: error of the loss allowed in bf16-mixed precision, as a share of it.

    Example:
        >>> class TestEncoder(ModelSuite):
        ...     name = "setwise/encoder"
        ...     options = {"dim": 8, "num_layers": 1}
        ...     data = {"name": "setwise/table", "sklearn": "iris"}
        ...     task = "setwise/classification"
        >>> TestEncoder().test_gradients_are_finite_and_reach_every_parameter()
    """

    kind = "models"
    task: ClassVar[Section] = ""
    without_gradient: ClassVar[Collection[str]] = ()
    overfit_steps: ClassVar[int] = 300
    overfit_share: ClassVar[float] = 0.2
    overfit_lr: ClassVar[float] = 1e-2
    bf16_tolerance: ClassVar[float] = 0.05

    def build_model(self, data: DataSpec) -> nn.Module:
        """Return the model under test."""
        return self.component().build(data=data)

    def build_task(self, data: DataSpec) -> AbstractTask:
        """Return the task that the model is tested with."""
        return build_component("tasks", self.section("task", self.task), data=data)

    def test_gradients_are_finite_and_reach_every_parameter(self) -> None:
        """The loss of a batch has a finite gradient in every parameter, zero in none."""
        situation = self.situation()
        leave_initial_point(situation.model)
        with seeded(0):
            situation.loss().backward()
        expect_gradients_everywhere(situation.model, exempt=self.without_gradient)

    def test_state_survives_a_checkpoint(self, tmp_path: Path) -> None:
        """A model that was trained, saved as safetensors and loaded into a new one computes the same bits."""
        trained, fresh = self.situation(seed=0), self.situation(seed=1)
        with seeded(0):
            train_a_little(trained.model, trained.loss())
        load_through_checkpoint(trained.model, fresh.model, tmp_path)
        loaded, expected = fresh.evaluate(self.split), trained.evaluate(self.split)
        expect_equal(loaded, expected, "state_dict() must hold all that the result depends on; a loaded model differs")

    def test_overfits_one_batch(self) -> None:
        """The loss of a single batch falls when it is trained on alone: everything needed to learn is connected."""
        situation = self.situation()
        optimizer = torch.optim.Adam(situation.model.parameters(), lr=self.overfit_lr)
        losses: list[float] = []
        with seeded(0):
            for _ in range(self.overfit_steps):
                loss = situation.loss()
                losses.append(loss.item())
                if losses[-1] < self.overfit_share * losses[0]:
                    return
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        raise AssertionError(
            f"the loss of one batch fell from {losses[0]:.3g} to {min(losses):.3g} in {self.overfit_steps} steps; it "
            f"must fall below {self.overfit_share} of its start. Is everything connected, and "
            f"overfit_lr={self.overfit_lr} right?"
        )

    def test_bf16_is_finite_and_close(self) -> None:
        """In bf16-mixed precision the loss and its gradients are finite, and the loss is close to that in float32."""
        situation = self.situation()
        situation.model.eval()  # dropout would draw other numbers
        expected = situation.loss()
        with autocast(torch.device("cpu"), "bf16-mixed"):
            loss = situation.loss()
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in situation.model.named_parameters()}
        expect_finite_gradients(gradients, "in bf16-mixed precision")
        expect_close(loss, expected, "the loss in bf16-mixed precision is off", tolerance=self.bf16_tolerance)

    def test_weights_and_training_are_functions_of_the_seed(self) -> None:
        """Built and trained twice with torch's generator seeded equally, a model has the same bits."""
        states = []
        for _ in range(2):
            situation = self.situation(seed=7)
            with seeded(8):
                train_a_little(situation.model, situation.loss())
            states.append(situation.model.state_dict())
        expect_equal(dict(states[1]), dict(states[0]), "two models with one seed differ after building and one step")

    def test_weights_are_drawn_with_torch(self) -> None:
        """Initial weights come from torch's generator, the only one that a run seeds for them."""
        data = self.build_data()
        data.prepare()
        states = []
        for seed in (0, 1):
            with seeded(seed):
                torch.manual_seed(5)
                states.append(dict(self.build_model(data.spec).state_dict()))
        broken = "initial weights must depend on torch's generator alone, not on those of Python or NumPy"
        expect_equal(states[1], states[0], broken)

    def test_evaluation_is_deterministic_and_uses_no_global_randomness(self) -> None:
        """In evaluation mode a model is a function of its weights and the batch."""
        situation = self.situation()
        expect_no_global_randomness("a model in evaluation mode", lambda: situation.evaluate(self.split))

    def test_instances_share_no_state(self) -> None:
        """Training one model leaves another one as it is."""
        first, second = self.situation(seed=0), self.situation(seed=1)
        expect_apart(first.model, second.model, "two models")
        before = first.evaluate(self.split)
        with seeded(0):
            train_a_little(second.model, second.loss())
        expect_equal(first.evaluate(self.split), before, "training one model changed another; they share state")

    def test_copy_is_equal_and_independent(self) -> None:
        """A deep copy computes the same, and training it leaves the original as it is."""
        original = self.situation()
        before = original.evaluate(self.split)
        copied = dataclasses.replace(original, model=copy.deepcopy(original.model))
        expect_equal(copied.evaluate(self.split), before, "a deep copy of the model computes something else")
        copied.model.train()
        with seeded(0):
            train_a_little(copied.model, copied.loss())
        expect_equal(original.evaluate(self.split), before, "training a deep copy of the model changed the original")

    def test_is_built_from_the_stored_spec(self) -> None:
        """A model built from the spec in a run folder takes the weights of one built from the data."""
        situation = self.situation()
        stored = DataSpec.from_json(situation.data.spec.to_json())
        shapes = [
            {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
            for model in (self.build_model(stored), situation.model)
        ]
        expect_equal(shapes[0], shapes[1], "a model built from the stored spec has other weights")
