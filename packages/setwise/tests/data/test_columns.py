import numpy as np
import pandas as pd
import pytest

from setwise.data.columns import missing_rows, parse_column, parse_labels, parse_numbers, parse_table, text_columns
from setwise.errors import DataError

nan = float("nan")


def series(*values, dtype=None) -> pd.Series:
    return pd.Series(values, name="x", dtype=dtype)


def same(values, expected) -> bool:
    return np.array_equal(np.asarray(values, dtype=float), np.asarray(expected, dtype=float), equal_nan=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (series(1.5, nan, -2.0), [1.5, nan, -2.0]),
        (series(1, 2, None, dtype="Int64"), [1, 2, nan]),
        (series("1", " 2.5 ", "?", "", None, "  ", "1e-3"), [1, 2.5, nan, nan, nan, nan, 1e-3]),
        (series(True, False), [1, 0]),
    ],
)
def test_numbers_are_read_from_numbers_and_text(given, expected):
    assert same(parse_numbers(given), expected)


def test_number_column_names_the_first_mistakes():
    with pytest.raises(DataError) as error:
        parse_numbers(series("1", "two", "3", "four", "five", "six", "two"))

    assert str(error.value) == (
        'column "x" should hold numbers, but has "two" (row 1), "four" (row 3), "five" (row 4) and 2 more, counted '
        "from 0; correct the values, leave them empty where they are unknown, or list the column in data.categorical"
    )


@pytest.mark.parametrize("given", [series(1.0, nan, -float("inf")), series("1", "2", "inf")])
def test_infinite_values_are_refused_with_their_place(given):
    with pytest.raises(DataError, match='column "x" has 1 infinite values, the first in row 2'):
        parse_numbers(given)


@pytest.mark.parametrize(
    ("given", "codes", "labels"),
    [
        (series("b", " a", None, "b ", "?", ""), [0, 1, -1, 0, -1, -1], ("b", "a")),
        (series(3, 1, 3), [0, 1, 0], ("3", "1")),
        (series(3.0, 0.5, nan), [0, 1, -1], ("3", "0.5")),
        (series(1, 1.0, "1", True, dtype=object), [0, 0, 0, 0], ("1",)),
        (series(True, None, False, dtype=object), [0, -1, 1], ("True", "False")),
        (pd.Series(pd.Categorical(["b", None, "a"], ["a", "b", "c"])), [0, -1, 1], ("b", "a")),
    ],
)
def test_labels_do_not_depend_on_the_type_a_reader_chose(given, codes, labels):
    found_codes, found_labels = parse_labels(given)

    assert found_codes.tolist() == codes
    assert found_codes.dtype == np.int32
    assert found_labels == labels


def test_values_that_are_not_scalars_are_refused():
    with pytest.raises(DataError, match='column "x" holds values that are neither numbers nor text'):
        parse_labels(series([1], [2], dtype=object))


@pytest.mark.parametrize(
    ("given", "categories"),
    [
        (series("b", "a", "b"), ("a", "b")),
        (series(True, False, True), ("False", "True")),
        (series("10", "9", "9", dtype="category"), ("9", "10")),
        (series("a1", "17", "3", "b2", "5"), ("17", "3", "5", "a1", "b2")),
        (series(1, 2, 3), None),
        (series("1", "2", "?"), None),
        (series(0.5, nan), None),
    ],
)
def test_kind_of_an_input_is_inferred(given, categories):
    assert parse_column(given).categories == categories


@pytest.mark.parametrize(
    ("given", "is_categorical"),
    [
        (pd.Series([0, 1] * 5), True),
        (pd.Series([0.0, 1.0] * 5), True),
        (pd.Series(["0", "1"] * 5), True),
        (pd.Series(["no", "yes"] * 5), True),
        (pd.Series(range(20)).repeat(2), True),
        (pd.Series(range(21)).repeat(2), False),  # too many different values
        (pd.Series(range(10)), False),  # one row per value
        (pd.Series([0.5, 1.0] * 5), False),  # not whole
    ],
)
def test_kind_of_a_target_is_inferred(given, is_categorical):
    assert (parse_column(given.rename("y"), is_target=True).categories is not None) == is_categorical


def test_declared_kinds_win_over_inferred_ones():
    assert parse_column(series(3, 1, 3), kind="categorical").categories == ("1", "3")
    assert parse_column(series(0, 1, 0, 1), kind="continuous", is_target=True).categories is None
    assert same(parse_column(series(True, False, None, dtype=object), kind="categorical").values, [1, 0, -1])


def test_categories_are_numbered_in_sorted_order_with_missing_as_minus_one():
    column = parse_column(series("10", "9", "?", "10"), kind="categorical")

    assert column.categories == ("9", "10")
    assert column.values.tolist() == [1, 0, -1, 1]
    assert column.missing.tolist() == [False, False, True, False]


def test_text_that_is_mostly_numbers_is_taken_for_a_mistake():
    with pytest.raises(DataError) as error:
        parse_column(series(*"123456789", "n/k"))

    assert str(error.value) == (
        'column "x" holds numbers in 9 of 10 rows, but also "n/k" (row 9), counted from 0; correct them, leave them '
        'empty where they are unknown, or keep the texts as categories with data.categorical=["x"]'
    )


def test_text_that_is_mostly_numbers_can_be_declared_categorical():
    assert parse_column(series(*"123456789", "n/k"), kind="categorical").categories == (*"123456789", "n/k")


@pytest.mark.parametrize(
    "given", [pd.to_datetime(series("2020-01-01")), pd.to_timedelta(series("1 day")), series(1 + 2j)]
)
def test_other_types_are_refused(given):
    with pytest.raises(DataError, match=r'column "x" is of type .*; allowed are .*data\.drop=\["x"\]'):
        parse_column(given)


def test_table_has_inputs_in_their_order_then_targets_in_the_order_given():
    frame = pd.DataFrame({"y": [1.5, 2], "b": [1, 2], "z": ["u", "v"], "a": [3, 4]})

    assert [column.name for column in parse_table(frame, targets=("z", "y"))] == ["b", "a", "z", "y"]


def test_inputs_without_values_are_left_out_and_logged(caplog):
    frame = pd.DataFrame({"a": [1, 2], "gone": ["?", None], "y": [0.5, 1]})

    columns = parse_table(frame, targets=("y",), categorical=("gone",))

    assert [column.name for column in columns] == ["a", "y"]
    assert caplog.messages == ['column "gone" has no value in any row and is left out']


@pytest.mark.parametrize("frame", [pd.DataFrame({"y": [0.5, 1]}), pd.DataFrame({"a": [None, None], "y": [0.5, 1]})])
def test_table_without_inputs_is_refused(frame):
    with pytest.raises(DataError, match="nothing to predict from"):
        parse_table(frame, targets=("y",))


@pytest.mark.parametrize(
    "given",
    [series(1.0, nan, 2.0), series(1, None, 2, dtype="Int64"), series("a", "?", "b"), series(True, None, False)],
)
def test_missing_rows_are_those_without_a_value(given):
    assert missing_rows(given).tolist() == [False, True, False]


def test_column_names_become_text_and_rows_are_numbered_from_zero():
    frame = text_columns(pd.DataFrame([[1, 2]], columns=[7, "b"], index=[5]))

    assert list(frame.columns) == ["7", "b"]
    assert list(frame.index) == [0]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame(), "the table has no columns"),
        (pd.DataFrame({"a": [], "b": []}), "the table is empty: it has 2 columns and no rows"),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]), "column names must be unique; .*: a. Rename them"),
    ],
)
def test_frames_that_are_no_table_are_refused(frame, message):
    with pytest.raises(DataError, match=message):
        text_columns(frame)
