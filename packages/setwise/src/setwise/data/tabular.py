"""Tables as datasets: items are rows, or sets of rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from setwise.data import columns, encoding, splits
from setwise.data.columns import Column
from setwise.data.dataset import AbstractDataModule, require_indices, require_split
from setwise.data.encoding import EncodedTable
from setwise.data.sets import RowSets, collate_sets, prediction_sets
from setwise.data.sources import SourceTable, read_source
from setwise.data.spec import DataSpec
from setwise.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from setwise.options import TableLayout, TableOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Prepared:
    """Everything that reading and encoding a table gives."""

    spec: DataSpec
    table: EncodedTable
    splits: np.ndarray  # (rows,) 0 train, 1 val, 2 test
    row_ids: np.ndarray  # (rows,) number of each row in the source
    rows_of_split: dict[str, np.ndarray]  # the rows of each split that has any
    sets: RowSets | None  # None where items are rows
    fingerprint: str


@final
class TableData(AbstractDataModule):
    """A table with declared targets, as single rows or as sets of rows.

    A row is a dict of D cells each, D columns in the order of ``spec.columns`` (inputs, then targets):

    - ``values`` float32: standardised number; 0 in categorical columns and where missing,
    - ``codes`` int64: index of the category; 0 in continuous columns and where missing,
    - ``missing`` bool: whether the table has no value.

    Without ``set_size`` an item is a row, its tensors (D,), and a batch has (batch, D). With it an item is a set, its
    tensors (rows, D), to which come, of shape (rows,), ``split`` int64 (0 train, 1 val, 2 test, 3 to be predicted)
    and ``row_id`` int64 (number of the row in the source; of a row to be predicted, its number among those). A batch
    of sets has (sets, rows, D), padded at the end, with ``present`` (sets, rows) bool.

    Nothing is hidden: targets of all splits are in the items, and what a model may see is for its task to decide.

    Args:
        layout: which columns are what, how rows are split, and what an item is.
        seed: what the order of rows and the partition into sets derive from. The splits derive from
            ``layout.split_seed``, so runs of several seeds use the same splits.
        read: returns the table; called once, by :meth:`prepare`.

    Example:
        >>> frame = pd.DataFrame({"age": [31, 41, 59, 26, 53], "ill": ["no", "yes", "yes", "no", "yes"]})
        >>> data = TableData.from_frame(frame, target="ill", test_fraction=0.4, val_fraction=0)
        >>> data.prepare()
        >>> data.num_items("train"), data.spec.targets[0].categories
        (3, ('no', 'yes'))
    """

    def __init__(self, layout: TableLayout, *, seed: int, read: Callable[[], SourceTable]) -> None:
        super().__init__(seed=seed)
        self.layout = layout
        self._read = read
        self._prepared: _Prepared | None = None
        self._whole_sets: dict[str, dict[str, Tensor]] = {}

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, seed: int = 0, **layout: Any) -> TableData:
        """Return the dataset of a frame. ``layout`` are the fields of :class:`setwise.options.TableLayout`.

        Raises:
            ValidationError: a field of the layout is unknown or out of range (pydantic's).
        """
        from setwise.options import TableLayout

        return cls(TableLayout(**layout), seed=seed, read=partial(SourceTable, frame))

    def prepare(self) -> None:
        if self._prepared is None:
            self._prepared = _prepare(self._read(), self.layout, self.seed)

    @property
    def spec(self) -> DataSpec:
        return self._ready.spec

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._ready.rows_of_split)

    @property
    def row_splits(self) -> np.ndarray:
        """(rows,) the split of every row: 0 train, 1 val, 2 test."""
        return self._ready.splits

    def num_items(self, split: str, epoch: int = 0) -> int:
        prepared = self._ready
        require_split(split, self.splits)
        return prepared.sets.num_sets(split) if prepared.sets else len(prepared.rows_of_split[split])

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        if self._ready.sets is None:
            return {key: cells[0] for key, cells in self.batch(split, epoch, [index]).items()}
        require_indices([index], self.num_items(split, epoch), split)
        if self.layout.set_size == "all":
            if split not in self._whole_sets:
                self._whole_sets[split] = self._set(self._ready.sets.rows(split, epoch, index))
            return self._whole_sets[split]
        return self._set(self._ready.sets.rows(split, epoch, index))

    def batch(self, split: str, epoch: int, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        if self._ready.sets is not None:
            return super().batch(split, epoch, indices)
        require_split(split, self.splits)
        rows = self._ready.rows_of_split[split]
        return self._ready.table.rows(rows[require_indices(indices, len(rows), split)])

    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        return super().collate(items) if self.layout.set_size is None else collate_sets(items)

    def fingerprint(self) -> str:
        return self._ready.fingerprint

    @property
    def predicts_from_context(self) -> bool:
        return self.layout.set_size is not None

    def prediction_items(self, frame: pd.DataFrame, spec: DataSpec) -> list[dict[str, Tensor]]:
        if self.layout.set_size is None:
            return encoding.prediction_rows(frame, spec)
        table = encoding.encode_frame(frame, spec)
        parts = prediction_sets(self._ready.splits, len(table), set_size=self.layout.set_size, seed=self.seed)
        return [_concatenate(self._set(context), _new_rows(table, new)) for context, new in parts]

    @property
    def _ready(self) -> _Prepared:
        if self._prepared is None:
            raise DataError("the table is not read yet; call prepare() first")
        return self._prepared

    def _set(self, rows: np.ndarray) -> dict[str, Tensor]:
        prepared = self._ready
        return prepared.table.rows(rows) | {
            "split": torch.from_numpy(prepared.splits[rows].astype(np.int64)),
            "row_id": torch.from_numpy(prepared.row_ids[rows]),
        }


def build_table(options: TableOptions, *, seed: int) -> TableData:
    """Build the dataset ``setwise/table``: a table from a file, from OpenML or from scikit-learn."""
    return TableData(options, seed=seed, read=partial(read_source, options))


def _prepare(source: SourceTable, layout: TableLayout, seed: int) -> _Prepared:
    frame = columns.text_columns(source.frame)
    targets = layout.targets or source.targets
    _check_names(frame, layout, targets)
    row_ids = _rows_with_targets(frame, layout, targets)
    if len(row_ids) < len(frame):
        frame = frame.iloc[row_ids].reset_index(drop=True)
    split_column = None if layout.split_column is None else columns.column_of(frame, layout.split_column)
    parsed = columns.parse_table(
        frame.drop(columns=list({*layout.drop, layout.split_column} - {None})),
        targets=targets,
        categorical=layout.categorical,
        continuous=layout.continuous,
    )
    classes = _single_class_column(parsed[-len(targets) :])
    row_splits = splits.assign_splits(
        layout,
        row_ids,
        num_source_rows=len(source.frame),
        classes=classes,
        split_column=split_column,
    )
    train_rows = row_splits == splits.TRAIN
    input_rows = np.ones_like(train_rows) if layout.transductive else train_rows
    spec = encoding.fit_spec(parsed, num_targets=len(targets), input_rows=input_rows, target_rows=train_rows)
    return _Prepared(
        spec=spec,
        table=encoding.encode_columns(parsed, spec),
        splits=row_splits,
        row_ids=row_ids,
        rows_of_split={
            name: rows for code, name in enumerate(splits.SPLITS) if (rows := np.flatnonzero(row_splits == code)).size
        },
        sets=_row_sets(layout, row_splits, classes, seed),
        fingerprint=encoding.fingerprint_columns(parsed, row_splits, row_ids),
    )


def _check_names(frame: pd.DataFrame, layout: TableLayout, targets: Sequence[str]) -> None:
    if not targets:
        raise DataError(f"data.target must name the column to predict, one of: {', '.join(frame.columns)}")
    columns.require_columns(frame, targets, "data.target")
    for option in ("drop", "categorical", "continuous"):
        columns.require_columns(frame, getattr(layout, option), f"data.{option}")
    if layout.split_column is not None:
        columns.require_columns(frame, [layout.split_column], "data.split_column")
    lost = [name for name in targets if name in {*layout.drop, layout.split_column}]
    if lost:
        raise DataError(f'"{lost[0]}" cannot be the target and be left out by data.drop or data.split_column as well')


def _rows_with_targets(frame: pd.DataFrame, layout: TableLayout, targets: Sequence[str]) -> np.ndarray:
    """Return the rows to use: all, or those with all targets where the user asked for that."""
    missing = np.zeros(len(frame), dtype=bool)
    for name in targets:
        missing_here = columns.missing_rows(columns.column_of(frame, name))
        rows = np.flatnonzero(missing_here)
        if rows.size and not layout.drop_missing_targets:
            shown = ", ".join(str(row) for row in rows[:5]) + (", …" if rows.size > 5 else "")
            raise DataError(
                f'target "{name}" is missing in {rows.size} of {len(frame)} rows (rows {shown}, counted from 0); fill '
                "them in, remove them, or set data.drop_missing_targets=true to train and test without them"
            )
        missing |= missing_here
    if missing.all():
        raise DataError(f"no row of the table has all of its targets ({', '.join(targets)})")
    if missing.any():
        logger.warning("leaving out %d of %d rows without a target", int(missing.sum()), len(frame))
    return np.flatnonzero(~missing)


def _single_class_column(targets: Sequence[Column]) -> Column | None:
    """Check the classes of every categorical target; return the target if it is a single categorical one."""
    for column in targets:
        if column.categories is not None and len(column.categories) == 1:
            raise DataError(
                f'target "{column.name}" has one class only, "{column.categories[0]}", in all rows; classification '
                "needs two or more. Check the column, or predict another one"
            )
    return targets[0] if len(targets) == 1 and targets[0].categories is not None else None


def _row_sets(layout: TableLayout, row_splits: np.ndarray, classes: Column | None, seed: int) -> RowSets | None:
    if layout.set_size is None:
        return None
    if layout.balance_classes and classes is None:
        raise DataError("data.balance_classes=true needs exactly one target, and that categorical; set it to false")
    return RowSets(
        row_splits,
        set_size=layout.set_size,
        transductive=layout.transductive,
        classes=classes.values if layout.balance_classes and classes is not None else None,
        seed=seed,
    )


def _new_rows(table: EncodedTable, rows: np.ndarray) -> dict[str, Tensor]:
    return table.rows(rows) | {
        "split": torch.full((len(rows),), splits.PREDICT),
        "row_id": torch.from_numpy(rows),
    }


def _concatenate(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: torch.cat([first[key], second[key]]) for key in first}
