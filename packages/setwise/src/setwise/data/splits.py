"""Deciding which rows of a table train, validate and test."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Int

from setwise.data.columns import Column, parse_labels
from setwise.errors import DataError, suggest

if TYPE_CHECKING:
    from setwise.options import TableLayout

SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST, PREDICT = range(4)
DEFAULT_TEST_FRACTION = 0.2
_ADVICE = "merge the class with another, leave its rows out, or set data.stratify=false"


def assign_splits(
    layout: TableLayout,
    row_ids: Int[np.ndarray, " rows"],
    *,
    num_source_rows: int,
    classes: Column | None,
    split_column: pd.Series | None,
) -> Int[np.ndarray, " rows"]:
    """Return for every row 0 (train), 1 (val) or 2 (test): a function of the layout and the table alone.

    The test rows come from one of: the split column, the last ``test_rows`` rows of the table, fold number ``fold``
    of ``folds``, or a random ``test_fraction``. Validation rows come from the split column if it names any, else a
    random ``val_fraction`` of all rows is taken from the rows that do not test.

    Args:
        layout: the options.
        row_ids: number of each row in the source; differs from its position where rows were left out.
        num_source_rows: number of rows of the source.
        classes: the column whose categories every random split keeps the proportions of; None for plain draws.
        split_column: the column ``layout.split_column`` names, if it names one.

    Raises:
        DataError: the table does not allow these splits.
    """
    num_rows = len(row_ids)
    if not layout.stratify:
        classes = None
    splits = np.full(num_rows, TRAIN, dtype=np.int8)
    if split_column is not None:
        splits = _named_splits(split_column)
    elif layout.test_rows is not None:
        splits[row_ids >= num_source_rows - layout.test_rows] = TEST
    elif layout.folds is not None:
        splits[_fold(num_rows, layout.folds, layout.fold, classes, layout.split_seed)] = TEST
    else:
        fraction = DEFAULT_TEST_FRACTION if layout.test_fraction is None else layout.test_fraction
        count = _num_held_out(fraction, num_rows, "test_fraction")
        splits[_hold_out(np.arange(num_rows), count, classes, layout.split_seed, "test_fraction")] = TEST
    if not (splits == VAL).any():
        count = _num_held_out(layout.val_fraction, num_rows, "val_fraction")
        rest = np.flatnonzero(splits == TRAIN)
        splits[_hold_out(rest, count, classes, layout.split_seed, "val_fraction")] = VAL
    if not (splits == TRAIN).any():
        raise DataError(f"none of the {num_rows} rows is left to train on; make the other splits smaller")
    return splits


def _named_splits(series: pd.Series) -> np.ndarray:
    codes, labels = parse_labels(series)
    unknown = [label for label in labels if label not in SPLITS]
    if unknown:
        hint = suggest(unknown[0].lower(), SPLITS)
        raise DataError(
            f'split column "{series.name}" has the value "{unknown[0]}"; allowed: {", ".join(SPLITS)}{hint}'
        )
    if (codes < 0).any():
        raise DataError(
            f'split column "{series.name}" is empty in {int((codes < 0).sum())} rows, the first is row '
            f"{int(np.argmax(codes < 0))} (counted from 0); give each row one of: {', '.join(SPLITS)}"
        )
    return np.array([SPLITS.index(label) for label in labels], dtype=np.int8)[codes]


def _fold(num_rows: int, folds: int, fold: int, classes: Column | None, seed: int) -> np.ndarray:
    """Return the test rows of a fold; the folds partition the rows."""
    from sklearn.model_selection import KFold, StratifiedKFold

    if folds > num_rows:
        raise DataError(f"data.folds={folds} must be at most the number of rows, {num_rows}")
    if classes is None:
        halves = list(KFold(folds, shuffle=True, random_state=seed).split(np.empty(num_rows)))
    else:
        counts = _require_repeated_classes(classes, np.arange(num_rows))
        if folds > counts.max():
            raise DataError(
                f'data.folds={folds} must be at most the number of rows of the largest class of "{classes.name}", '
                f"{counts.max()}; use fewer folds, or set data.stratify=false"
            )
        # scikit-learn warns of each class with fewer rows than folds; such a class is simply absent from some folds.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
            splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
            halves = list(splitter.split(np.empty(num_rows), classes.values))
    return np.asarray(halves[fold][1])


def _hold_out(candidates: np.ndarray, count: int, classes: Column | None, seed: int, option: str) -> np.ndarray:
    """Draw ``count`` of the candidate rows, with the class proportions of all of them."""
    from sklearn.model_selection import train_test_split

    if count == 0:
        return candidates[:0]
    if count >= len(candidates):
        raise DataError(f"data.{option} takes {count} of {len(candidates)} rows and leaves none to train on; lower it")
    labels = None
    if classes is not None:
        labels = classes.values[candidates]
        num_classes = int((_require_repeated_classes(classes, candidates) > 0).sum())
        if min(count, len(candidates) - count) < num_classes:
            raise DataError(
                f"data.{option} divides {len(candidates)} rows into {len(candidates) - count} and {count}: too few for "
                f'the {num_classes} classes of "{classes.name}" to be in both; change it, or set data.stratify=false'
            )
    return np.asarray(train_test_split(candidates, test_size=count, stratify=labels, random_state=seed)[1])


def _num_held_out(fraction: float, num_rows: int, option: str) -> int:
    count = round(fraction * num_rows)
    if fraction > 0 and count == 0:
        raise DataError(f"data.{option}={fraction} of {num_rows} rows is not a single row; raise it, or set it to 0")
    return count


def _require_repeated_classes(classes: Column, rows: np.ndarray) -> Int[np.ndarray, " classes"]:
    """Return how many of the rows each class has; no class may have exactly one."""
    categories = classes.categories or ()
    counts = np.bincount(classes.values[rows], minlength=len(categories))
    lonely = np.flatnonzero(counts == 1)
    if lonely.size:
        where = "the table" if len(rows) == len(classes.values) else "the rows left to train and validate on"
        more = f" (and {lonely.size - 1} more classes)" if lonely.size > 1 else ""
        raise DataError(
            f'class "{categories[lonely[0]]}" of target "{classes.name}" has 1 row in {where}{more}, so it cannot be '
            f"in two splits: {_ADVICE}"
        )
    return counts
