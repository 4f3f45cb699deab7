from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from setwise.data.dataset import AbstractDataModule
from setwise.data.spec import Continuous, DataSpec
from setwise.errors import ConfigError, DataError
from setwise.train.feed import MicroBatch, TrainFeed


class Numbers(AbstractDataModule):
    """Item i is the number i; a batch is the list of its items."""

    def __init__(self, size: int) -> None:
        super().__init__(seed=5)
        self.size = size

    def prepare(self) -> None: ...

    @property
    def spec(self) -> DataSpec:
        return DataSpec((Continuous("x"),))

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train",)

    def num_items(self, split: str, epoch: int = 0) -> int:
        return self.size

    def item(self, split: str, epoch: int, index: int) -> int:
        return index

    def collate(self, items: list[int]) -> list[int]:
        return list(items)

    def fingerprint(self) -> str:
        return "0" * 64


def served(step: list[MicroBatch]) -> list[int]:
    return [item for micro in step if micro.counted for item in micro.data]


def test_an_epoch_serves_every_item_once_and_epochs_differ() -> None:
    feed = TrainFeed(Numbers(11), batch_size=4)
    assert feed.steps_per_epoch == 3
    steps = [served(step) for step in feed.steps(0, 6)]
    first, second = [*chain(*steps[:3])], [*chain(*steps[3:])]
    assert [len(step) for step in steps] == [4, 4, 3, 4, 4, 3]
    assert sorted(first) == sorted(second) == list(range(11))
    assert first != second
    assert [feed.num_items_at(step) for step in range(6)] == [4, 4, 3, 4, 4, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_anywhere_serves_what_would_have_been_served(workers: int) -> None:
    feed = TrainFeed(Numbers(11), batch_size=4, micro_batch_size=3, num_workers=workers)
    assert list(feed.steps(4, 9)) == list(TrainFeed(Numbers(11), batch_size=4, micro_batch_size=3).steps(0, 9))[4:]


@settings(deadline=None)
@given(
    size=st.integers(1, 60),
    batch_size=st.integers(1, 40),
    world_size=st.integers(1, 5),
    micro_batch_size=st.one_of(st.none(), st.integers(1, 9)),
)
def test_processes_and_micro_batches_share_the_global_batch(
    size: int, batch_size: int, world_size: int, micro_batch_size: int | None
) -> None:
    if min(size, batch_size) < world_size:
        return
    whole = TrainFeed(Numbers(size), batch_size=batch_size)
    shares = [
        TrainFeed(
            Numbers(size),
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    end = whole.steps_per_epoch + 1
    for expected, *parts in zip(whole.steps(0, end), *(share.steps(0, end) for share in shares), strict=True):
        assert [*chain(*(served(part) for part in parts))] == served(expected)
        positions = [p for part in parts for micro in part if micro.counted for p in micro.positions]
        assert positions == list(range(len(served(expected))))
        assert len({len(part) for part in parts}) == 1  # all processes run as many forward passes
        if micro_batch_size is not None:
            assert all(len(micro.data) <= micro_batch_size for part in parts for micro in part)


def test_a_batch_smaller_than_the_processes_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 3 items cannot be shared by 4 processes"):
        TrainFeed(Numbers(11), batch_size=3, world_size=4)


def test_an_empty_training_split_is_refused() -> None:
    with pytest.raises(DataError, match="no items"):
        TrainFeed(Numbers(0), batch_size=3)


def test_the_order_is_the_datas_own() -> None:
    data = Numbers(7)
    (step,) = TrainFeed(data, batch_size=7).steps(2, 3)
    assert served(step) == np.asarray(data.order("train", 2)).tolist()
