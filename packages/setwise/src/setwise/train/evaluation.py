"""Evaluation of a split, over all processes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from setwise.config import TrainerConfig
from setwise.data.dataset import AbstractDataModule
from setwise.device import move, seed_everything_of
from setwise.errors import ConfigError, DataError, suggest
from setwise.seeding import derive_seed
from setwise.tasks.task import AbstractTask, StepContext
from setwise.train.engine import AbstractEngine


def check_splits_and_monitor(config: TrainerConfig, task: AbstractTask, data: AbstractDataModule) -> None:
    """Raise :class:`ConfigError` when a configuration names a split that is not there or a metric nobody measures."""
    allowed = [f"{s}/{m}" for s in config.eval_splits for m in ("loss", *task.metrics(s))]
    for split in config.eval_splits:
        if split not in data.splits:
            raise ConfigError(
                f'trainer.eval_splits names "{split}", the data has: {", ".join(data.splits)}'
                f"{suggest(split, data.splits)}"
            )
    for split in config.final_splits:
        if split not in (*data.splits, "train", "val", "test"):  # of these, those that the data has
            raise ConfigError(
                f'trainer.final_splits names "{split}", the data has: {", ".join(data.splits)}'
                f"{suggest(split, data.splits)}"
            )
    if allowed and config.monitor not in allowed:
        raise ConfigError(
            f'trainer.monitor="{config.monitor}" is not measured; allowed: {", ".join(allowed)}'
            f"{suggest(config.monitor, allowed)}"
        )


def evaluate(
    engine: AbstractEngine,
    task: AbstractTask,
    data: AbstractDataModule,
    split: str,
    *,
    batch_size: int,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Return the loss and the metrics of a split, or None when ``should_stop`` cut the evaluation short.

    The result is a function of (weights, data, seed): the objective's randomness does not depend on the step. With
    several processes each evaluates its share and all return the same numbers.

    Args:
        engine: holds the model.
        task: gives the loss and the metrics.
        data: a prepared data module.
        split: which of its splits.
        batch_size: most items of one forward pass of a process.
        seed: seed of the run.
        should_stop: asked between batches, in a single process only: several have to stay in step.

    Raises:
        DataError: the split has no items.
    """
    num_items = data.num_items(split)
    if num_items == 0:
        raise DataError(
            f'split "{split}" has no items to evaluate; take it out of trainer.eval_splits and final_splits'
        )
    metrics = {name: metric.to(engine.device) for name, metric in task.metrics(split).items()}
    totals = torch.zeros(2, device=engine.device)
    # A metric that was never updated has no state that could be exchanged with that of another process, so each
    # process gets a batch of its own; where there are fewer items than processes, each evaluates all of them.
    shared = engine.world_size > 1 and num_items >= engine.world_size
    rank, num_shares = (engine.rank, engine.world_size) if shared else (0, 1)
    if shared:
        batch_size = min(batch_size, num_items // num_shares)
    else:
        for metric in metrics.values():
            metric.distributed_available_fn = lambda: False
    num_batches = math.ceil(num_items / batch_size)
    was_training = engine.module.training
    engine.module.eval()
    seed_everything_of(engine.device, derive_seed(seed, "evaluation", split))
    try:
        for first in range(0, num_batches, num_shares):
            if engine.world_size == 1 and should_stop():
                return None
            mine = first + rank
            # A process without a batch of its own runs one all the same: sharded weights need everybody.
            number = mine if mine < num_batches else first
            indices = np.arange(number * batch_size, min((number + 1) * batch_size, num_items))
            ctx = StepContext(0, 0, 1.0, split, False, seed, indices.tolist())
            with torch.no_grad(), engine.autocast():
                out = task.step(engine.module, move(data.batch(split, 0, indices), engine.device), ctx)
            if mine < num_batches:
                totals += torch.stack([out.loss_sum.to(totals.dtype), scalar_like(totals, out.weight)])
                for name, arguments in out.metrics.items():
                    metrics[name].update(*arguments)
    finally:
        engine.module.train(was_training)
    loss_sum, weight = (engine.sum(totals) if shared else totals).tolist()
    results = {"loss": loss_sum / weight if weight else math.nan}
    for name, metric in metrics.items():
        results[name] = float(metric.compute())
    return results


def scalar_like(like: Tensor, value: Tensor | float) -> Tensor:
    """Return ``value`` as a scalar of the dtype and device of ``like``, without waiting for the device."""
    if isinstance(value, Tensor):
        return value.detach().to(like)
    return torch.full((), value, dtype=like.dtype, device=like.device)
