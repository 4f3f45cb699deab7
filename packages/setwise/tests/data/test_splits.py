import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setwise.data.columns import parse_column
from setwise.data.splits import TEST, TRAIN, VAL, assign_splits
from setwise.errors import DataError
from setwise.options import TableLayout

CLASSES = parse_column(pd.Series(["a"] * 60 + ["b"] * 30 + ["c"] * 11, name="y"))


def assign(num_rows=101, classes=None, split_column=None, row_ids=None, num_source_rows=None, **layout):
    row_ids = np.arange(num_rows) if row_ids is None else np.array(row_ids)
    return assign_splits(
        TableLayout(target="y", **layout),
        row_ids,
        num_source_rows=num_source_rows or len(row_ids),
        classes=classes,
        split_column=None if split_column is None else pd.Series(split_column, name="part"),
    )


def counts(splits) -> list[int]:
    return np.bincount(splits, minlength=3).tolist()


def test_default_is_a_fifth_to_test_and_a_tenth_to_validate():
    assert counts(assign()) == [71, 10, 20]


def test_random_splits_keep_class_proportions():
    splits = assign(classes=CLASSES, test_fraction=0.25, val_fraction=0.25)

    for code in range(3):
        of_class = splits[CLASSES.values == code]
        expected = len(of_class) / 4
        assert all(abs((of_class == split).sum() - expected) <= 1 for split in (VAL, TEST))


def test_splits_depend_on_the_split_seed_alone():
    assert (assign(split_seed=3) == assign(split_seed=3)).all()
    assert (assign(split_seed=3) != assign(split_seed=4)).any()


@given(folds=st.integers(2, 11), stratified=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_folds_partition_the_rows_evenly(folds, stratified, seed):
    classes = CLASSES if stratified else None
    tested = [
        np.flatnonzero(assign(classes=classes, folds=folds, fold=fold, split_seed=seed) == TEST)
        for fold in range(folds)
    ]

    assert sorted(np.concatenate(tested)) == list(range(101))
    assert max(map(len, tested)) - min(map(len, tested)) <= (len(CLASSES.categories) if stratified else 1)
    if stratified:
        of_class = [np.bincount(CLASSES.values[rows], minlength=3) for rows in tested]
        assert (np.ptp(of_class, axis=0) <= 1).all()


def test_validation_rows_of_a_fold_are_a_fraction_of_all_rows_outside_it():
    splits = assign(classes=CLASSES, folds=10, fold=3, val_fraction=0.2)

    assert counts(splits)[VAL] == 20
    assert counts(splits)[TEST] in (10, 11)


def test_last_rows_can_test():
    splits = assign(test_rows=13, val_fraction=0)

    assert np.flatnonzero(splits == TEST).tolist() == list(range(88, 101))


def test_last_rows_are_those_of_the_source_where_rows_were_left_out():
    splits = assign(row_ids=[0, 1, 2, 5, 7, 9], num_source_rows=10, test_rows=3, val_fraction=0)

    assert splits.tolist() == [TRAIN, TRAIN, TRAIN, TRAIN, TEST, TEST]


def test_split_column_decides():
    splits = assign(5, split_column=["train", "test", "val", " train", "test"])

    assert splits.tolist() == [TRAIN, TEST, VAL, TRAIN, TEST]


def test_validation_rows_are_drawn_where_the_split_column_names_none():
    splits = assign(20, split_column=["train"] * 15 + ["test"] * 5, val_fraction=0.25)

    assert counts(splits) == [10, 5, 5]
    assert (splits[15:] == TEST).all()


def test_zero_fractions_leave_out_a_split():
    assert counts(assign(test_fraction=0, val_fraction=0)) == [101, 0, 0]


def test_rare_classes_are_absent_from_some_folds():
    classes = parse_column(pd.Series(["a"] * 17 + ["b"] * 3, name="y"))

    splits = [assign(20, classes, folds=5, fold=fold, val_fraction=0) for fold in range(5)]

    assert sum((each[17:] == TEST).sum() for each in splits) == 3


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_rows": 7, "folds": 11}, "data.folds=11 must be at most the number of rows, 7"),
        ({"classes": CLASSES, "folds": 61}, "data.folds=61 must be at most .* largest class of .y., 60"),
        ({"num_rows": 3, "test_fraction": 0.1}, "data.test_fraction=0.1 of 3 rows is not a single row"),
        ({"num_rows": 13, "test_rows": 13, "val_fraction": 0}, "none of the 13 rows is left to train on"),
        ({"num_rows": 13, "test_rows": 11, "val_fraction": 0.2}, "val_fraction takes 3 of 2 rows"),
        (
            {"classes": CLASSES, "test_fraction": 0.02},
            "data.test_fraction divides 101 rows into 99 and 2: too few for the 3 classes of .y.",
        ),
        (
            {"num_rows": 2, "split_column": ["train", "Tset"]},
            'split column "part" has the value "Tset"; allowed: train, val, test; did you mean "test"',
        ),
        (
            {"num_rows": 3, "split_column": ["train", None, ""]},
            'split column "part" is empty in 2 rows, the first is row 1',
        ),
    ],
)
def test_impossible_splits_are_refused(keywords, message):
    with pytest.raises(DataError, match=message):
        assign(**keywords)


def test_class_with_one_row_is_named_with_what_to_do():
    classes = parse_column(pd.Series(["a"] * 10 + ["b"] * 9 + ["odd"], name="y"))

    with pytest.raises(DataError) as error:
        assign(20, classes)

    assert str(error.value) == (
        'class "odd" of target "y" has 1 row in the table, so it cannot be in two splits: merge the class with '
        "another, leave its rows out, or set data.stratify=false"
    )
    assert counts(assign(20, classes, stratify=False)) == [14, 2, 4]


def test_class_with_one_row_left_after_the_test_split_is_named():
    classes = parse_column(pd.Series(["a"] * 18 + ["b"] * 2, name="y"))

    with pytest.raises(DataError, match='class "b" of target "y" has 1 row in the rows left to train and validate on'):
        assign(20, classes, test_fraction=0.5)
