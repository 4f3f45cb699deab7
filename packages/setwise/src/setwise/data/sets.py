"""Items that are sets of rows of a table: which rows form a set, how sets of unequal size form a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from setwise.data import sampling
from setwise.data.splits import SPLITS, TEST, TRAIN, VAL
from setwise.errors import ShapeError

# What stands in the cells of padding rows. A split of -1 is no split, so `split == k` leaves padding out by itself.
_PADDING = {"values": 0.0, "codes": 0, "missing": True, "split": -1, "row_id": -1}
_VISIBLE = {"train": (TRAIN,), "val": (TRAIN, VAL), "test": (TRAIN, VAL, TEST)}


class RowSets:
    """The partition of a table's rows into sets, reshuffled every epoch.

    Args:
        splits: (rows,) 0 train, 1 val, 2 test.
        set_size: largest number of rows of a set; ``"all"`` for one set of all rows, in the order of the table.
        transductive: whether every set has rows of all splits, in the proportions of the table. Otherwise the sets of
            ``"train"`` have train rows, those of ``"val"`` train and val rows, those of ``"test"`` all rows.
        classes: (rows,) class of each row, whose proportions among the train rows every set shall keep; or None.
        seed: what the partitions are a function of, with split and epoch.
    """

    def __init__(
        self,
        splits: Int[np.ndarray, " rows"],
        *,
        set_size: int | Literal["all"],
        transductive: bool,
        classes: Int[np.ndarray, " rows"] | None = None,
        seed: int,
    ) -> None:
        self.set_size: int | Literal["all"] = set_size
        self.seed = seed
        # Classes of rows that are to be predicted are not known when a model is used, so they balance nothing.
        self._strata = splits.astype(np.int64)
        if classes is not None:
            self._strata = np.where(splits == TRAIN, classes, classes.max() + splits)
        self._rows = {
            split: np.flatnonzero(np.isin(splits, (TRAIN, VAL, TEST) if transductive else _VISIBLE[split]))
            for split in SPLITS
        }
        self._partitions: dict[str, tuple[int, list[np.ndarray]]] = {}

    def num_sets(self, split: str) -> int:
        """Return the number of sets of an epoch."""
        return 1 if self.set_size == "all" else -(-len(self._rows[split]) // self.set_size)

    def rows(self, split: str, epoch: int, index: int) -> Int[np.ndarray, " set"]:
        """Return the rows of one set."""
        if self.set_size == "all":
            return self._rows[split]
        computed_epoch, sets = self._partitions.get(split, (None, []))
        if computed_epoch != epoch:
            rows = self._rows[split]
            parts = sampling.stratified_sets(
                self._strata[rows], self.set_size, seed=self.seed, epoch=epoch, split=split
            )
            sets = [rows[part] for part in parts]
            self._partitions[split] = (epoch, sets)
        return sets[index]


def prediction_sets(
    strata: Int[np.ndarray, " rows"], num_new: int, *, set_size: int | Literal["all"], seed: int
) -> list[tuple[Int[np.ndarray, " context"], Int[np.ndarray, " new"]]]:
    """Divide new rows into sets, each with labelled rows of the table as context.

    If everything fits into one set, that is the only one. Otherwise a set has all rows of the table as context if
    they fill at most half of it, and else half of it is context: a sample with the proportions of ``strata``, another
    one for each set, as a function of (seed, number of the set).

    Args:
        strata: (rows,) stratum of each row of the table.
        num_new: number of new rows.
        set_size: largest number of rows of a set; ``"all"`` for no limit.
        seed: seed of the samples.

    Returns:
        For each set, the indices of its context rows and of its new rows. The new rows are in ascending order.
    """
    num_rows = len(strata)
    if set_size == "all" or num_rows + num_new <= set_size:
        return [(np.arange(num_rows), np.arange(num_new))] if num_new else []
    num_context = min(num_rows, set_size // 2)
    chunk_size = set_size - num_context
    chunks = [np.arange(start, min(start + chunk_size, num_new)) for start in range(0, num_new, chunk_size)]
    return [
        (sampling.stratified_sample(strata, num_context, seed=seed, number=number), chunk)
        for number, chunk in enumerate(chunks)
    ]


def collate_sets(items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack sets along a new first axis, padding the smaller ones at the end.

    Args:
        items: sets with the keys ``values``, ``codes``, ``missing``, ``split``, ``row_id``, each (rows, ...).

    Returns:
        The same keys, each (sets, rows, ...), and ``present`` (sets, rows) bool, False for padding. In padding,
        ``missing`` is True, ``split`` and ``row_id`` are -1, all else is 0.

    Raises:
        ShapeError: there is no set.
    """
    if not items:
        raise ShapeError("a batch needs at least one set, got none")
    if len(items) == 1:  # a view: a set of the whole table is not copied
        batch = {key: tensor[None] for key, tensor in items[0].items()}
        batch["present"] = torch.ones(batch["values"].shape[:2], dtype=torch.bool)
        return batch
    sizes = torch.tensor([len(item["values"]) for item in items])
    batch = {
        key: pad_sequence([item[key] for item in items], batch_first=True, padding_value=padding)
        for key, padding in _PADDING.items()
    }
    batch["present"] = torch.arange(int(sizes.max())) < sizes[:, None]
    return batch
