"""What a dataset is to the trainer: splits of items, each a pure function of (seed, split, epoch, index)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from setwise.data import sampling
from setwise.data.spec import DataSpec
from setwise.errors import DataError, ShapeError, suggest

if TYPE_CHECKING:
    import pandas as pd


class AbstractDataModule(ABC):
    """A dataset: how to get it, what it holds, and its items.

    The stateless law: :meth:`item`, :meth:`order` and :meth:`num_items` depend on (seed, split, epoch, index) and on
    nothing else: no position that moves, no global random generator, no memory of earlier calls other than caches of
    results. A run's place in its data is therefore two integers, (epoch, items served), and any process may compute
    any item: resuming, several workers and several machines give the same items as one undisturbed process.

    A subclass is final and implements :meth:`prepare`, :attr:`spec`, :attr:`splits`, :meth:`num_items`, :meth:`item`
    and :meth:`fingerprint`. All but :meth:`prepare` may be called after :meth:`prepare` only, and raise
    :class:`~setwise.errors.DataError` otherwise. The tensors of an item may share memory with the dataset: do not
    write to them.

    Args:
        seed: what all randomness of the data derives from.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    @abstractmethod
    def prepare(self) -> None:
        """Download, read and encode the data. A second call does nothing.

        Raises:
            DataError: the data cannot be had, or is not what was declared.
        """

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """The fields of the data, with all that was fitted to encode them."""

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that have items: of ``"train"``, ``"val"`` and ``"test"``, in this order."""

    @abstractmethod
    def num_items(self, split: str, epoch: int = 0) -> int:
        """Return how many items ``split`` has in an epoch; the same in all epochs of ``"train"``.

        Raises:
            DataError: there is no such split.
        """

    @abstractmethod
    def item(self, split: str, epoch: int, index: int) -> Any:
        """Return item number ``index`` of a split in an epoch: for most datasets a dict of tensors.

        Raises:
            DataError: there is no such split or item.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return the sha256 (64 hexadecimal digits) of the data that the items are made of."""

    def order(self, split: str, epoch: int) -> Sequence[int] | np.ndarray:
        """Return the order in which an epoch visits the items: shuffled for ``"train"``, ascending for others."""
        num_items = self.num_items(split, epoch)
        if split == "train":
            return sampling.shuffled(num_items, self.seed, epoch)
        return range(num_items)

    def collate(self, items: Sequence[Any]) -> Any:
        """Return a batch of items. The default stacks dicts of equally shaped tensors along a new first axis.

        Raises:
            ShapeError: the items differ in their keys or shapes.
        """
        return stack(items)

    def batch(self, split: str, epoch: int, indices: Sequence[int] | np.ndarray) -> Any:
        """Return the batch of several items, equal to :meth:`collate` of each :meth:`item`.

        A dataset that can gather many items at once overrides this to do it faster, never to do something else.
        """
        return self.collate([self.item(split, epoch, int(index)) for index in indices])

    @property
    def predicts_from_context(self) -> bool:
        """Whether :meth:`prediction_items` needs the prepared data, and not only its spec."""
        return True

    def prediction_items(self, frame: pd.DataFrame, spec: DataSpec) -> list[Any]:
        """Return items, to be collated and predicted, for the rows of a table of new data.

        Args:
            frame: the rows, with the input columns of the spec in any order.
            spec: the fields of the data that the model was trained on, as stored with its run.

        Raises:
            DataError: the dataset is not a table, or the rows do not have its columns.
        """
        raise DataError(
            f"{type(self).__name__} cannot read rows of a table: only tables are predicted from one; "
            "call the model on your own tensors from Python instead"
        )


def stack(items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack dicts of equally shaped tensors along a new first axis.

    Args:
        items: at least one dict; all have the same keys, and under each key the same shape.

    Raises:
        ShapeError: the items differ in their keys or shapes, or there are none.

    Example:
        >>> stack([{"x": torch.zeros(3)}, {"x": torch.ones(3)}])["x"].shape
        torch.Size([2, 3])
    """
    if not items:
        raise ShapeError("a batch needs at least one item, got none")
    first = items[0]
    for item in items:
        if item.keys() != first.keys():
            raise ShapeError(f"items of a batch must have the same keys: {sorted(item)} differ from {sorted(first)}")
    try:
        return {key: torch.stack([item[key] for item in items]) for key in first}
    except RuntimeError as error:
        shapes = {key: sorted({tuple(item[key].shape) for item in items}) for key in first}
        ragged = {key: found for key, found in shapes.items() if len(found) > 1}
        if not ragged:
            raise
        raise ShapeError(f"items of a batch must have equal shapes, got {ragged}; pad them in collate()") from error


def require_split(split: str, splits: Sequence[str]) -> None:
    """Raise :class:`DataError` unless ``split`` is one of ``splits``."""
    if split not in splits:
        raise DataError(f'there is no split "{split}"; the data has: {", ".join(splits)}{suggest(split, splits)}')


def require_indices(indices: Sequence[int] | np.ndarray, num_items: int, split: str) -> Integer[np.ndarray, " indices"]:
    """Return the indices as an array.

    Raises:
        DataError: one of them is not in [0, ``num_items``).
        ShapeError: there are none.
    """
    array = np.asarray(indices)
    if array.size == 0:
        raise ShapeError("a batch needs at least one item, got none")
    wrong = array[(array < 0) | (array >= num_items)]
    if wrong.size:
        raise DataError(f'item {wrong[0]} of split "{split}" does not exist; items are 0 to {num_items - 1}')
    return array
