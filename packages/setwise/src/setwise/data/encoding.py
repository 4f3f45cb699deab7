"""Encoding a table as tensors: standardised numbers, category codes, and flags for what is missing.

Fitting and applying are separate: :func:`fit_spec` puts all that was fitted into a
:class:`~setwise.data.spec.DataSpec`, and every other function here encodes by such a spec alone. New rows can
therefore be encoded by a stored run where the training table is not.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from setwise.data.columns import Column, column_of, parse_labels, parse_numbers, text_columns
from setwise.data.spec import Categorical, Continuous, DataSpec, Field
from setwise.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedTable:
    """The cells of a table, D columns in the order of ``spec.columns``.

    Attributes:
        values: (rows, D) float32 standardised numbers; 0 in categorical columns and where missing.
        codes: (rows, D) int32 indices of categories; 0 in continuous columns and where missing.
        missing: (rows, D) bool, True where the table has no value.
    """

    values: Float[Tensor, "rows columns"]
    codes: Int[Tensor, "rows columns"]
    missing: Bool[Tensor, "rows columns"]

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, indices: Int[np.ndarray, " rows"]) -> dict[str, Tensor]:
        """Return the cells of some rows under the keys of a batch."""
        index = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return {
            "values": self.values.index_select(0, index),
            "codes": self.codes.index_select(0, index).long(),
            "missing": self.missing.index_select(0, index),
        }


def fit_spec(
    columns: Sequence[Column],
    *,
    num_targets: int,
    input_rows: Bool[np.ndarray, " rows"],
    target_rows: Bool[np.ndarray, " rows"],
) -> DataSpec:
    """Fit the encoding of parsed columns, of which the last ``num_targets`` are the targets.

    Numbers are standardised to ``(x - mean) / std`` by the population mean and standard deviation of the rows given;
    a column that is constant there gets std 1, one that has no value there mean 0 and std 1.

    Args:
        columns: the columns, targets last.
        num_targets: how many of them are targets.
        input_rows: True for the rows that mean and std of an input are computed from.
        target_rows: the same for targets.
    """
    num_inputs = len(columns) - num_targets
    inputs = tuple(_fit_field(column, input_rows) for column in columns[:num_inputs])
    targets = tuple(_fit_field(column, target_rows) for column in columns[num_inputs:])
    return DataSpec(inputs, targets)


def encode_columns(columns: Sequence[Column], spec: DataSpec) -> EncodedTable:
    """Encode parsed columns, whose codes are those of the spec."""
    num_rows = len(columns[0].values)
    values = np.zeros((num_rows, len(columns)), dtype=np.float32)
    codes = np.zeros((num_rows, len(columns)), dtype=np.int32)
    missing = np.stack([column.missing for column in columns], axis=1)
    for position, (column, field) in enumerate(zip(columns, spec.columns, strict=True)):
        if isinstance(field, Continuous):
            values[:, position] = (column.values - field.mean) / field.std
        else:
            codes[:, position] = column.values
    values[missing] = 0
    codes[missing] = 0
    return EncodedTable(torch.from_numpy(values), torch.from_numpy(codes), torch.from_numpy(missing))


def encode_frame(frame: pd.DataFrame, spec: DataSpec) -> EncodedTable:
    """Encode new rows to be predicted, by a fitted spec. Their targets are missing, whatever the frame says.

    Columns that the spec does not know are ignored, and categories it does not know are missing; both are logged.

    Raises:
        DataError: an input column is not there, or a value is not of the column's kind.

    Example:
        >>> spec = DataSpec((Continuous("age", mean=40.0, std=10.0),), (Categorical("ill", ("no", "yes")),))
        >>> encode_frame(pd.DataFrame({"age": [50, None]}), spec).values.tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    frame = text_columns(frame)
    inputs, targets = _table_fields(spec.inputs), _table_fields(spec.targets)
    names = [field.name for field in inputs]
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise DataError(
            f"the table to predict lacks {len(absent)} of the {len(names)} columns the model reads: "
            f"{', '.join(absent)}; it has: {', '.join(frame.columns)}. Add them; cells may be empty"
        )
    extra = [name for name in frame.columns if name not in {field.name for field in spec.columns}]
    if extra:
        logger.warning("ignoring %d columns that the model does not read: %s", len(extra), ", ".join(extra))
    columns = [_parse_as(field, column_of(frame, field.name)) for field in inputs]
    columns += [_empty_column(field, len(frame)) for field in targets]
    return encode_columns(columns, spec)


def prediction_rows(frame: pd.DataFrame, spec: DataSpec) -> list[dict[str, Tensor]]:
    """Return one item per row of new data: ``values``, ``codes`` and ``missing``, each (D,).

    Raises:
        DataError: see :func:`encode_frame`.
    """
    table = encode_frame(frame, spec)
    codes = table.codes.long()
    return [
        {"values": table.values[row], "codes": codes[row], "missing": table.missing[row]} for row in range(len(table))
    ]


def fingerprint_columns(columns: Sequence[Column], *arrays: np.ndarray) -> str:
    """Return the sha256 of parsed columns (names, kinds, cells before standardisation) and of further arrays.

    Cells are hashed as they were read: their standardised values may differ between machines in the last bit.
    """
    digest = hashlib.sha256()
    for column in columns:
        digest.update(repr((column.name, column.categories, column.values.shape)).encode())
        digest.update(np.ascontiguousarray(column.values).data)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _table_fields(fields: Sequence[Field]) -> list[Continuous | Categorical]:
    columns = [field for field in fields if isinstance(field, Continuous | Categorical)]
    if len(columns) < len(fields):
        raise DataError(f"the rows of a table are encoded by Continuous and Categorical fields only, not by {fields}")
    return columns


def _fit_field(column: Column, rows: np.ndarray) -> Continuous | Categorical:
    if column.categories is not None:
        return Categorical(column.name, column.categories)
    values = column.values[rows & ~column.missing]
    if values.size == 0:
        logger.warning('column "%s" has no value in the rows that standardise it: mean 0, std 1', column.name)
        return Continuous(column.name)
    # Rounding can give a constant column a std just above 0, which would blow up any other value in later rows.
    std = 1.0 if values.min() == values.max() else float(values.std())
    return Continuous(column.name, float(values.mean()), std)


def _parse_as(field: Continuous | Categorical, series: pd.Series) -> Column:
    if isinstance(field, Continuous):
        return Column(field.name, parse_numbers(series))
    codes, labels = parse_labels(series)
    positions = {label: position for position, label in enumerate(field.categories)}
    lookup = np.array([*(positions.get(label, -1) for label in labels), -1], dtype=np.int32)
    known = lookup[codes]
    num_unknown = int(((known < 0) & (codes >= 0)).sum())
    if num_unknown:
        unknown = [label for label in labels if label not in positions]
        shown = ", ".join(f'"{label}"' for label in unknown[:5]) + (", …" if len(unknown) > 5 else "")
        logger.warning(
            'column "%s": %d of %d rows have a category unknown to the model, treated as missing: %s',
            field.name,
            num_unknown,
            len(codes),
            shown,
        )
    return Column(field.name, known, field.categories)


def _empty_column(field: Continuous | Categorical, num_rows: int) -> Column:
    if isinstance(field, Continuous):
        return Column(field.name, np.full(num_rows, np.nan))
    return Column(field.name, np.full(num_rows, -1, dtype=np.int32), field.categories)
