"""Reading the columns of a table: what is a number, what is a category, what is missing, and what is a mistake.

Missing is NaN, None, an empty or blank text, and ``"?"``. A column's kind is, unless it is declared:

- categorical for booleans, pandas categories, and text;
- continuous for numbers, and for text that is a number in every row (text that is one in most rows is a mistake);
- for a target of numbers, categorical if they are whole, of at most 20 different values, and have at least two rows
  per value on average: class codes look like this, quantities rarely do.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import pandas as pd

from setwise.errors import DataError, suggest

Kind = Literal["continuous", "categorical"]

MAX_INFERRED_CLASSES = 20
MOSTLY_NUMBERS = 0.8  # share of rows from which a text column is taken for numbers with mistakes in them
_MISSING_TEXT = frozenset({"", "?"})
_NUM_EXAMPLES = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Column:
    """A parsed column.

    Attributes:
        name: its name.
        values: (rows,) float64 numbers with NaN for missing, or int32 category codes with -1 for missing.
        categories: the labels in the order of their codes; None for a column of numbers.
    """

    name: str
    values: np.ndarray
    categories: tuple[str, ...] | None = None

    @property
    def missing(self) -> np.ndarray:
        """(rows,) bool, True where the table has no value."""
        return np.isnan(self.values) if self.categories is None else self.values < 0


def parse_table(
    frame: pd.DataFrame, *, targets: Sequence[str], categorical: Sequence[str] = (), continuous: Sequence[str] = ()
) -> list[Column]:
    """Parse all columns of a frame, targets last. An input without a single value is left out, with a warning.

    Args:
        frame: the table; its columns have unique names that are strings.
        targets: names of the columns to be predicted, all in ``frame``.
        categorical: names of columns declared categorical.
        continuous: names of columns declared continuous.

    Raises:
        DataError: a column cannot be read as declared or inferred, or no input is left.
    """
    kinds: dict[str, Kind] = {**dict.fromkeys(categorical, "categorical"), **dict.fromkeys(continuous, "continuous")}
    inputs = []
    for name in frame.columns:
        if name in targets:
            continue
        column = parse_column(column_of(frame, name), kind=kinds.get(name))
        if column.missing.all():
            logger.warning('column "%s" has no value in any row and is left out', name)
        else:
            inputs.append(column)
    if not inputs:
        raise DataError("the table has no column with values besides its targets; there is nothing to predict from")
    return inputs + [parse_column(column_of(frame, name), kind=kinds.get(name), is_target=True) for name in targets]


def parse_column(series: pd.Series, *, kind: Kind | None = None, is_target: bool = False) -> Column:
    """Parse one column, as the declared ``kind`` or as inferred by the rules of this module.

    Raises:
        DataError: a value does not fit the kind, or the column has a type that is neither number, category nor text.
    """
    name = str(series.name)
    _require_readable_dtype(series)
    if _holds_numbers(series):
        numbers = parse_numbers(series)
        if kind is None:
            kind = "categorical" if is_target and _look_like_classes(numbers) else "continuous"
        return Column(name, numbers) if kind == "continuous" else _categorical_column(name, *parse_labels(series))
    if kind == "continuous":
        return Column(name, parse_numbers(series))
    codes, labels = parse_labels(series)
    if kind is None and not isinstance(series.dtype, pd.CategoricalDtype) and _are_numbers(name, codes, labels):
        numbers = parse_numbers(series)
        if not (is_target and _look_like_classes(numbers)):
            return Column(name, numbers)
    return _categorical_column(name, codes, labels)


def parse_numbers(series: pd.Series) -> np.ndarray:
    """Return (rows,) float64 numbers, NaN for missing.

    Raises:
        DataError: a value is neither a finite number nor missing; the message names column, row and value.
    """
    if pd.api.types.is_numeric_dtype(series.dtype):
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        codes, labels = parse_labels(series)
        per_label = _numbers_of(labels)
        mistakes = np.isnan(per_label)
        if mistakes.any():
            found = _examples(labels, codes, np.flatnonzero(np.append(mistakes, False)[codes]))
            raise DataError(
                f'column "{series.name}" should hold numbers, but has {found}; correct the values, leave them empty '
                f"where they are unknown, or list the column in data.categorical"
            )
        numbers = np.append(per_label, np.nan)[codes]
    infinite = np.flatnonzero(np.isinf(numbers))
    if infinite.size:
        raise DataError(
            f'column "{series.name}" has {infinite.size} infinite values, the first in row {infinite[0]} '
            "(rows count from 0); replace them, or leave them empty to have them treated as missing"
        )
    return numbers


def parse_labels(series: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (rows,) int32 codes, -1 for missing, and the label each code stands for, in order of appearance.

    A label is the value as text without surrounding blanks; whole numbers have no decimal point, so that 1, 1.0 and
    "1" are one category whatever type a file reader chose for the column.

    Raises:
        DataError: a value is not a scalar.
    """
    try:
        codes, uniques = pd.factorize(series)
    except TypeError as error:
        raise DataError(f'column "{series.name}" holds values that are neither numbers nor text: {error}') from error
    labels = [_label(value) for value in uniques.tolist()]
    different = [label for label in dict.fromkeys(labels) if label not in _MISSING_TEXT]
    positions = {label: position for position, label in enumerate(different)}
    lookup = np.array([*(positions.get(label, -1) for label in labels), -1], dtype=np.int32)
    return lookup[codes], tuple(different)


def missing_rows(series: pd.Series) -> np.ndarray:
    """Return (rows,) bool, True where a column has no value, without reading its values as a kind."""
    if _holds_numbers(series):
        return series.isna().to_numpy(dtype=bool)
    codes, _ = parse_labels(series)
    return codes < 0


def text_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with column names as text.

    Raises:
        DataError: the frame has no rows or no columns, or two columns have one name.
    """
    names = [str(name) for name in frame.columns]
    if not names:
        raise DataError("the table has no columns")
    require_unique_names(names)
    if len(frame) == 0:
        raise DataError(f"the table is empty: it has {len(names)} columns and no rows")
    return frame.set_axis(names, axis="columns").reset_index(drop=True)


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return one column of a frame with unique column names."""
    return cast(pd.Series, frame[name])


def require_unique_names(names: Sequence[str]) -> None:
    """Raise :class:`DataError` if a column name occurs more than once."""
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise DataError(
            f"column names must be unique; given more than once: {', '.join(duplicates)}. Rename them, or, "
            "if the first line of the file is data and not names, give the names in data.columns"
        )


def require_columns(frame: pd.DataFrame, names: Sequence[str], option: str) -> None:
    """Raise :class:`DataError` unless the frame has all ``names``, which ``option`` asks for."""
    for name in names:
        if name not in frame.columns:
            known = [str(column) for column in frame.columns]
            shown = ", ".join(known[:20]) + (f", … ({len(known)} in all)" if len(known) > 20 else "")
            raise DataError(
                f'{option}: there is no column "{name}"{suggest(name, known) or "."} The columns are: {shown}'
            )


def _categorical_column(name: str, codes: np.ndarray, labels: tuple[str, ...]) -> Column:
    """Number the categories in sorted order: numerically where all labels are numbers."""
    numbers = _numbers_of(labels)
    keys = [(0.0, label) for label in labels] if np.isnan(numbers).any() else list(zip(numbers, labels, strict=True))
    order = sorted(range(len(labels)), key=keys.__getitem__)
    new_codes = np.full(len(labels) + 1, -1, dtype=np.int32)
    new_codes[order] = np.arange(len(labels), dtype=np.int32)
    return Column(name, new_codes[codes], tuple(labels[position] for position in order))


def _require_readable_dtype(series: pd.Series) -> None:
    if series.dtype.kind in "mMc" or isinstance(series.dtype, pd.PeriodDtype | pd.IntervalDtype):
        raise DataError(
            f'column "{series.name}" is of type {series.dtype}; allowed are numbers, booleans, text and categories: '
            f'convert it, or leave it out with data.drop=["{series.name}"]'
        )


def _holds_numbers(series: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype)


def _look_like_classes(numbers: np.ndarray) -> bool:
    values = numbers[~np.isnan(numbers)]
    if values.size == 0 or np.any(values != np.floor(values)):
        return False
    num_different = np.unique(values).size
    return num_different <= MAX_INFERRED_CLASSES and 2 * num_different <= values.size


def _are_numbers(name: str, codes: np.ndarray, labels: tuple[str, ...]) -> bool:
    """Return whether all of a text column's values are numbers; refuse a column where only most of them are."""
    is_number = ~np.isnan(_numbers_of(labels))
    rows_of_label = np.bincount(codes[codes >= 0], minlength=len(labels))
    num_numbers, num_values = int(rows_of_label[is_number].sum()), int(rows_of_label.sum())
    if num_numbers == num_values or num_numbers < MOSTLY_NUMBERS * num_values:
        return num_numbers == num_values
    mistakes = np.flatnonzero(np.append(~is_number, False)[codes])
    raise DataError(
        f'column "{name}" holds numbers in {num_numbers} of {num_values} rows, but also '
        f"{_examples(labels, codes, mistakes)}; correct them, leave them empty where they are unknown, or keep the "
        f'texts as categories with data.categorical=["{name}"]'
    )


def _examples(labels: tuple[str, ...], codes: np.ndarray, rows: np.ndarray) -> str:
    """Name the first few of the given rows with their labels."""
    shown = ", ".join(f'"{labels[codes[row]]}" (row {row})' for row in rows[:_NUM_EXAMPLES])
    return shown + (f" and {rows.size - _NUM_EXAMPLES} more" if rows.size > _NUM_EXAMPLES else "") + ", counted from 0"


def _numbers_of(labels: Sequence[str]) -> np.ndarray:
    numbers = pd.to_numeric(pd.Series(labels, dtype=object), errors="coerce")
    return np.asarray(numbers, dtype=np.float64)


def _label(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
