"""A small world to train in: noisy linear regression whose items, noise and dropout are all random and all exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.regression import MeanAbsoluteError
from torchmetrics.utilities import dim_zero_cat

from setwise.config import TrainerConfig
from setwise.data.dataset import AbstractDataModule
from setwise.data.sampling import item_generator
from setwise.data.spec import Continuous, DataSpec
from setwise.device import resolve_setup
from setwise.tasks import AbstractTask, StepContext, StepOutput
from setwise.train.callbacks import AbstractCallback
from setwise.train.engine import AbstractEngine, SingleDeviceEngine
from setwise.train.runs import RunFolder
from setwise.train.trackers import JsonlTracker
from setwise.train.trainer import Trainer

NUM_INPUTS = 3


class LinearData(AbstractDataModule):
    """Items (x, y) with y linear in x, plus noise that is new in every epoch (an augmentation)."""

    sizes: Mapping[str, int] = {"train": 17, "val": 7, "test": 5}

    def prepare(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(sum(self.sizes.values()), NUM_INPUTS, generator=generator)
        self.outputs = self.inputs @ torch.tensor([1.0, -2.0, 0.5])

    @property
    def spec(self) -> DataSpec:
        return DataSpec(tuple(Continuous(f"x{i}") for i in range(NUM_INPUTS)), (Continuous("y"),))

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def num_items(self, split: str, epoch: int = 0) -> int:
        return self.sizes[split]

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        row = {"train": 0, "val": 17, "test": 24}[split] + index
        noise = 0.0
        if split == "train":
            noise = 0.1 * float(item_generator(self.seed, split, epoch, index).standard_normal())
        return {"x": self.inputs[row], "y": self.outputs[row] + noise}

    def fingerprint(self) -> str:
        return "0" * 64


class SquaredError(AbstractTask):
    """Squared error; the objective adds noise of its own, so that generators of the context matter."""

    def __init__(self, *, noise: float = 0.0) -> None:
        self.noise = noise

    def step(self, model: nn.Module, batch: Any, ctx: StepContext) -> StepOutput:
        drawn = torch.stack([torch.randn((), generator=ctx.generator(i)) for i in range(len(batch["y"]))])
        drawn = drawn.to(batch["y"].device)
        predicted = model(batch["x"]).squeeze(-1)
        error = predicted - batch["y"] - self.noise * drawn * ctx.training
        metrics = {} if ctx.training else {"mae": (predicted, batch["y"])}
        return StepOutput(error.square().sum(), len(error), metrics, {"bias": error.detach().mean()})

    def metrics(self, split: str) -> Mapping[str, Metric]:
        return {"mae": MeanAbsoluteError()}


class Median(Metric):
    """A metric that keeps all values, as the area under a curve does."""

    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        self.values.append(predicted - truth)

    def compute(self) -> Tensor:
        return dim_zero_cat(self.values).median()


class MedianSquaredError(SquaredError):
    def step(self, model: nn.Module, batch: Any, ctx: StepContext) -> StepOutput:
        out = super().step(model, batch, ctx)
        metrics = {} if ctx.training else {**out.metrics, "median": out.metrics["mae"]}
        return StepOutput(out.loss_sum, out.weight, metrics)

    def metrics(self, split: str) -> Mapping[str, Metric]:
        return {**super().metrics(split), "median": Median()}


class Act(AbstractCallback):
    """Calls a function after the step of that number."""

    def __init__(self, step: int, action: Callable[[Trainer], None]) -> None:
        self.step, self.action = step, action

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.state.step == self.step:
            self.action(trainer)


@pytest.fixture
def act() -> type[Act]:
    return Act


@pytest.fixture
def squared_error() -> type[SquaredError]:
    return SquaredError


@pytest.fixture
def median_squared_error() -> type[MedianSquaredError]:
    return MedianSquaredError


def build_linear_trainer(
    path: Path,
    *,
    engine: AbstractEngine | None = None,
    task: AbstractTask | None = None,
    callbacks: Sequence[AbstractCallback] = (),
    dropout: float = 0.0,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    schedule: Callable[[int], float] | None = None,
    sizes: Mapping[str, int] | None = None,
    **options: Any,
) -> Trainer:
    config = TrainerConfig(**{"max_steps": 11, "batch_size": 5, "eval_every": 4, "log_every": 3, **options})
    data = LinearData(seed=7)
    data.sizes = {**data.sizes, **(sizes or {})}
    data.prepare()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(NUM_INPUTS, 13), nn.Dropout(dropout), nn.Tanh(), nn.Linear(13, 1))
    run = RunFolder(path)
    run.path.mkdir(exist_ok=True)
    engine = engine or SingleDeviceEngine(resolve_setup("cpu", "32"))
    return Trainer(
        model,
        data=data,
        task=task or SquaredError(noise=0.1),
        make_optimizer=optimizer or (lambda module: torch.optim.Adam(module.parameters(), lr=0.01)),
        make_schedule=None if schedule is None else lambda num_steps: schedule,
        engine=engine,
        config=config,
        run=run,
        seed=3,
        trackers=[JsonlTracker(run.metrics_path)] if engine.is_main else [],
        callbacks=callbacks,
    )


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    def make(folder: str = "run", **options: Any) -> Trainer:
        return build_linear_trainer(tmp_path / folder, **options)

    return make
