import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch

from setwise.data.columns import parse_table
from setwise.data.encoding import encode_columns, encode_frame, fingerprint_columns, fit_spec, prediction_rows
from setwise.data.spec import Categorical, Continuous, DataSpec, Image
from setwise.errors import DataError

FRAME = pd.DataFrame({"n": [1.0, 3, None, 5, 100], "c": ["b", "a", "b", None, "c"], "y": [0.5, 1.5, 2.5, 3.5, 4.5]})
SPEC = DataSpec((Continuous("n", 3.0, 2.0), Categorical("c", ("a", "b"))), (Continuous("y", 2.0, 0.5),))


def fit(frame=FRAME, inputs=None, targets=None, num_targets=1):
    columns = parse_table(frame, targets=tuple(frame.columns[-num_targets:]))
    everything = np.ones(len(frame), dtype=bool)
    return columns, fit_spec(
        columns,
        num_targets=num_targets,
        input_rows=everything if inputs is None else np.array(inputs, dtype=bool),
        target_rows=everything if targets is None else np.array(targets, dtype=bool),
    )


def test_mean_and_std_are_of_the_population_of_the_given_rows():
    _, spec = fit(inputs=[1, 1, 1, 1, 0], targets=[1, 1, 0, 0, 0])

    assert spec.inputs[0] == Continuous("n", mean=3.0, std=math.sqrt(8 / 3))
    assert spec.targets[0] == Continuous("y", mean=1.0, std=0.5)


def test_categories_are_of_all_rows():
    _, spec = fit(inputs=[1, 1, 0, 0, 0])

    assert spec.inputs[1] == Categorical("c", ("a", "b", "c"))


def test_constant_column_gets_std_one():
    _, spec = fit(pd.DataFrame({"n": [0.1] * 10, "y": np.arange(10) / 10}))

    assert spec.inputs[0] == Continuous("n", 0.1, 1.0)


def test_column_without_values_in_the_given_rows_gets_mean_zero_and_std_one(caplog):
    _, spec = fit(inputs=[0, 0, 1, 0, 0])

    assert spec.inputs[0] == Continuous("n", 0.0, 1.0)
    assert 'column "n" has no value in the rows that standardise it' in caplog.text


def test_cells_are_standardised_coded_or_missing():
    columns, spec = fit(inputs=[1, 1, 1, 1, 0])

    table = encode_columns(columns, spec)

    std, deviation = math.sqrt(8 / 3), math.sqrt(2)
    assert table.values[:, 0].tolist() == pytest.approx([-2 / std, 0, 0, 2 / std, 97 / std])
    assert table.values[:, 2].tolist() == pytest.approx([step / deviation for step in (-2, -1, 0, 1, 2)])
    assert table.codes.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 2, 0]]
    assert table.missing.nonzero().tolist() == [[2, 0], [3, 1]]
    assert (table.values[:, 1] == 0).all()


def test_rows_have_the_types_of_a_batch():
    rows = encode_columns(*fit()).rows(np.array([4, 0, 4]))

    assert {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in rows.items()} == {
        "values": (torch.float32, (3, 3)),
        "codes": (torch.int64, (3, 3)),
        "missing": (torch.bool, (3, 3)),
    }
    assert rows["codes"][:, 1].tolist() == [2, 1, 2]


def test_training_rows_are_encoded_alike_as_new_rows():
    columns, spec = fit(FRAME.drop(index=4))

    table, new = encode_columns(columns, spec), encode_frame(FRAME.drop(index=4), spec)

    assert torch.equal(table.values[:, :2], new.values[:, :2])
    assert torch.equal(table.codes, new.codes)
    assert torch.equal(table.missing[:, :2], new.missing[:, :2])


def test_targets_of_new_rows_are_missing_whatever_they_say():
    new = encode_frame(FRAME.drop(index=4), SPEC)

    assert new.missing[:, 2].all()
    assert (new.values[:, 2] == 0).all()


def test_columns_of_new_rows_may_come_in_any_order_and_type():
    new = encode_frame(pd.DataFrame({"c": pd.Categorical(["b", "a"]), "n": ["5", "?"]}), SPEC)

    assert new.values[:, 0].tolist() == [1.0, 0.0]
    assert new.codes[:, 1].tolist() == [1, 0]


def test_lacking_columns_are_all_named():
    with pytest.raises(DataError, match="lacks 2 of the 2 columns the model reads: n, c; it has: x, y"):
        encode_frame(pd.DataFrame({"x": [1], "y": [2]}), SPEC)


def test_extra_columns_are_ignored_and_logged(caplog):
    new = encode_frame(pd.DataFrame({"n": [3], "id": [7], "c": ["a"], "day": ["mon"]}), SPEC)

    assert new.values.shape == (1, 3)
    assert caplog.messages == ["ignoring 2 columns that the model does not read: id, day"]


def test_unknown_categories_are_missing_and_counted(caplog):
    new = encode_frame(pd.DataFrame({"n": 5 * [3], "c": ["a", "q", None, "r", "q"]}), SPEC)

    assert new.missing[:, 1].tolist() == [False, True, True, True, True]
    assert caplog.record_tuples == [
        (
            "setwise.data.encoding",
            logging.WARNING,
            'column "c": 3 of 5 rows have a category unknown to the model, treated as missing: "q", "r"',
        )
    ]


def test_text_in_a_number_column_of_new_rows_is_refused():
    with pytest.raises(DataError, match=r'column "n" should hold numbers, but has "many" \(row 1\)'):
        encode_frame(pd.DataFrame({"n": ["3", "many"], "c": ["a", "b"]}), SPEC)


def test_spec_of_another_kind_of_data_is_refused():
    with pytest.raises(DataError, match="Continuous and Categorical fields only"):
        encode_frame(FRAME, DataSpec((Image("n", 3, 5, 7),)))


def test_prediction_rows_are_the_rows_of_the_encoded_frame():
    frame = FRAME.drop(index=4)

    items, table = prediction_rows(frame, SPEC), encode_frame(frame, SPEC)

    assert len(items) == 4
    assert all(torch.equal(items[row]["values"], table.values[row]) for row in range(4))
    assert [item["codes"].tolist() for item in items] == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert items[0]["codes"].dtype == torch.int64


def test_fingerprint_changes_with_cells_names_and_further_arrays():
    def fingerprint(frame, splits=(0, 1)):
        return fingerprint_columns(parse_table(frame, targets=("y",)), np.array(splits))

    frame = pd.DataFrame({"a": [1.0, 2.0], "c": ["u", "v"], "y": [0.5, 1]})
    others = [
        frame.assign(a=[1.0, 2.0000000000000004]),
        frame.assign(a=[1.0, None]),
        frame.assign(c=["v", "u"]),
        frame.assign(c=["u", "w"]),
        frame.rename(columns={"a": "b"}),
        frame[["c", "a", "y"]],
    ]

    found = [fingerprint(frame), fingerprint(frame, (1, 0)), *map(fingerprint, others)]

    assert len(set(found)) == len(found)
    assert fingerprint(frame.copy()) == found[0]
    assert all(len(each) == 64 for each in found)
