"""The feed: which items each optimizer step uses, in which process and micro-batch.

The data's order is a function of (seed, epoch) and the batches are slices of it, so the position in the data is
(epoch, batch) = divmod(step, steps_per_epoch) and nothing needs to be replayed when a run goes on.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from setwise.data.dataset import AbstractDataModule
from setwise.errors import ConfigError, DataError, SetwiseError


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass of one process.

    Attributes:
        data: what the data module returned for the items.
        epoch: pass over the training data.
        positions: places of the items in the global batch.
        counted: False for a stand-in that keeps a process without items of its own in step with the others.
    """

    data: Any
    epoch: int
    positions: list[int]
    counted: bool


@dataclass(frozen=True)
class _Slice:
    """The items of one micro-batch, before they are fetched."""

    epoch: int
    indices: list[int]
    positions: list[int]
    counted: bool
    last: bool


class TrainFeed:
    """Serves the training batches of one process, starting at any step.

    Args:
        data: a prepared data module with a ``"train"`` split.
        batch_size: items of one optimizer step, over all processes.
        micro_batch_size: most items of one forward pass; None for all a process has.
        rank: this process.
        world_size: number of processes.
        num_workers: worker processes that fetch ahead; 0 fetches in this process. Does not change what is served.
        pin_memory: whether batches are put into page-locked memory, for a faster copy to a CUDA device.

    Raises:
        ConfigError: there are more processes than items in a batch.
        DataError: the training split is empty.
    """

    def __init__(
        self,
        data: AbstractDataModule,
        *,
        batch_size: int,
        micro_batch_size: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        num_items = data.num_items("train")
        if num_items == 0:
            raise DataError("the training split has no items; change the split fractions or give more data")
        if min(batch_size, num_items) < world_size:
            raise ConfigError(
                f"a batch of {min(batch_size, num_items)} items cannot be shared by {world_size} processes; "
                f"raise trainer.batch_size to at least {world_size}, or start fewer processes"
            )
        self.data = data
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.rank, self.world_size = rank, world_size
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.steps_per_epoch = math.ceil(num_items / batch_size)

    def steps(self, start: int, end: int) -> Iterator[list[MicroBatch]]:
        """Yield the micro-batches of each step in [start, end)."""
        step: list[MicroBatch] = []
        for data, part in self._fetch(self._plan(start, end)):
            if isinstance(data, SetwiseError):
                raise data
            step.append(MicroBatch(data, part.epoch, part.positions, part.counted))
            if part.last:
                yield step
                step = []

    def num_items_at(self, step: int) -> int:
        """Return how many items the global batch of ``step`` has; the last of an epoch may be smaller."""
        batch = step % self.steps_per_epoch
        return min(self.batch_size, self.data.num_items("train") - batch * self.batch_size)

    def _plan(self, start: int, end: int) -> Iterator[_Slice]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(start, end):
            step_epoch, batch = divmod(step, self.steps_per_epoch)
            if step_epoch != epoch:
                epoch, order = step_epoch, np.asarray(self.data.order("train", step_epoch))
            indices = order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()
            whole = range(len(indices))
            largest = len(_part(whole, 0, self.world_size))
            num_micro = math.ceil(largest / (self.micro_batch_size or largest))
            mine = _part(whole, self.rank, self.world_size)
            for number in range(num_micro):
                part = _part(mine, number, num_micro)
                last = number == num_micro - 1
                if part:
                    yield _Slice(epoch, indices[part.start : part.stop], list(part), True, last)
                else:
                    yield _Slice(epoch, indices[:1], [0], False, last)

    def _fetch(self, plan: Iterator[_Slice]) -> Iterator[tuple[Any, _Slice]]:
        items = _Items(self.data)
        if self.num_workers == 0:
            return (items[key] for key in plan)
        loader = DataLoader(
            items,
            sampler=plan,
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            worker_init_fn=_leave_signals_to_the_trainer,
            generator=torch.Generator().manual_seed(0),  # only so that torch's global one is left alone
        )
        return iter(loader)


def _part(whole: range, number: int, num_parts: int) -> range:
    """Return one of ``num_parts`` consecutive parts of ``whole``, whose sizes differ by at most one, larger first."""
    size, larger = divmod(len(whole), num_parts)
    start = whole.start + number * size + min(number, larger)
    return range(start, start + size + (number < larger))


class _Items(Dataset):
    """A data module as torch's DataLoader wants it: the key of an "item" is a slice of a batch."""

    def __init__(self, data: AbstractDataModule) -> None:
        self.data = data

    def __getitem__(self, key: _Slice) -> tuple[Any, _Slice]:
        try:
            return self.data.batch("train", key.epoch, key.indices), key
        except SetwiseError as error:  # served as it is: torch would put a worker's traceback into its message
            return error, key


def _leave_signals_to_the_trainer(worker: int) -> None:
    # Terminals and schedulers signal all processes of a job; a worker that died of it would break the last step.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
