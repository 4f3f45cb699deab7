import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from setwise.data.spec import Categorical, Continuous
from setwise.data.splits import PREDICT, TEST, TRAIN, VAL
from setwise.data.tabular import TableData, build_table
from setwise.errors import DataError
from setwise.options import TableLayout, TableOptions

ROWS = 53
GENERATOR = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "y": GENERATOR.choice(["no", "yes"], ROWS),
        "n": GENERATOR.normal(size=ROWS),
        "c": GENERATOR.choice(["a", "b", "?"], ROWS),
        "m": GENERATOR.integers(0, 7, ROWS) * 1.5,
    }
)


def table(frame=FRAME, *, seed=0, **layout) -> TableData:
    data = TableData.from_frame(frame, seed=seed, **{"target": "y", **layout})
    data.prepare()
    return data


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_columns_are_inputs_in_their_order_then_targets():
    spec = table().spec

    assert [field.name for field in spec.columns] == ["n", "c", "m", "y"]
    assert spec.targets == (Categorical("y", ("no", "yes")),)


def test_row_items_are_the_cells_of_the_rows_of_their_split():
    data = table()
    rows = np.flatnonzero(data.row_splits == TEST)

    assert data.num_items("test") == len(rows)
    for index, row in enumerate(rows):
        item = data.item("test", 0, index)
        field = data.spec.inputs[0]
        assert item["values"][0] == pytest.approx((FRAME["n"][row] - field.mean) / field.std, abs=1e-6)
        assert item["codes"].tolist() == [0, int(FRAME["c"][row] == "b"), 0, int(FRAME["y"][row] == "yes")]
        assert item["missing"].tolist() == [False, FRAME["c"][row] == "?", False, False]
    assert {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in item.items()} == {
        "values": (torch.float32, (4,)),
        "codes": (torch.int64, (4,)),
        "missing": (torch.bool, (4,)),
    }


def test_batch_of_rows_is_the_collated_items():
    data = table()
    indices = [3, 0, 7]

    assert same(data.batch("train", 0, indices), data.collate([data.item("train", 0, index) for index in indices]))


def test_splits_partition_the_rows():
    data = table()

    assert data.splits == ("train", "val", "test")
    assert sum(data.num_items(split) for split in data.splits) == ROWS


def test_empty_splits_are_not_there():
    data = table(test_fraction=0, val_fraction=0)

    assert data.splits == ("train",)
    with pytest.raises(DataError, match='no split "val"; the data has: train'):
        data.num_items("val")


def check_statistics(field, numbers):
    assert (field.mean, field.std) == pytest.approx((numbers.mean(), numbers.std(ddof=0)))


def test_statistics_are_of_train_rows():
    data = table()

    check_statistics(data.spec.inputs[0], FRAME["n"][data.row_splits == TRAIN])


def test_transductive_statistics_are_of_all_rows_for_inputs_and_of_train_rows_for_targets():
    data = table(target="m", set_size="all", transductive=True)

    check_statistics(data.spec.inputs[1], FRAME["n"])
    check_statistics(data.spec.targets[0], FRAME["m"][data.row_splits == TRAIN])


def test_whole_table_as_one_set():
    data = table(set_size="all", transductive=True)

    item = data.item("train", 0, 0)

    assert data.num_items("train") == data.num_items("test") == 1
    assert {key: tuple(tensor.shape) for key, tensor in item.items()} == {
        "values": (ROWS, 4),
        "codes": (ROWS, 4),
        "missing": (ROWS, 4),
        "split": (ROWS,),
        "row_id": (ROWS,),
    }
    assert item["split"].tolist() == data.row_splits.tolist()
    assert item["row_id"].tolist() == list(range(ROWS))
    assert data.item("train", 1, 0)["values"].data_ptr() == item["values"].data_ptr()


def test_sets_hold_the_cells_of_their_rows():
    whole = table(set_size="all", transductive=True).item("train", 0, 0)
    data = table(set_size=11, transductive=True)

    batch = data.batch("train", 3, range(data.num_items("train")))

    present = batch["present"]
    assert present.shape == (5, 11)
    assert sorted(batch["row_id"][present].tolist()) == list(range(ROWS))
    for key in ("values", "codes", "missing", "split"):
        assert torch.equal(batch[key][present], whole[key][batch["row_id"][present]])
        assert batch[key].dtype == whole[key].dtype


def test_targets_of_all_splits_are_in_the_sets():
    assert not table(set_size="all", transductive=True).item("train", 0, 0)["missing"][:, 3].any()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 99), index=st.integers(0, 4))
def test_items_are_a_function_of_seed_split_epoch_and_index(seed, epoch, index):
    fresh, used = table(seed=seed, set_size=11, transductive=True), table(seed=seed, set_size=11, transductive=True)
    for other in (epoch + 1, epoch, epoch + 1):
        used.item("train", other, 4 - index)

    assert same(used.item("train", epoch, index), fresh.item("train", epoch, index))


def test_runs_of_several_seeds_have_the_same_splits_but_other_sets():
    one, other = table(seed=0, set_size=11, transductive=True), table(seed=1, set_size=11, transductive=True)

    assert (one.row_splits == other.row_splits).all()
    assert not same(one.item("train", 0, 0), other.item("train", 0, 0))


def test_prepared_data_can_be_sent_to_a_worker_process():
    data = table(set_size=11, transductive=True)

    copy = pickle.loads(pickle.dumps(data))

    assert same(copy.item("val", 2, 1), data.item("val", 2, 1))


def test_preparing_twice_reads_once():
    calls = []

    def read():
        from setwise.data.sources import SourceTable

        calls.append(1)
        return SourceTable(FRAME)

    data = TableData(TableLayout(target="y"), seed=0, read=read)
    data.prepare()
    data.prepare()

    assert len(calls) == 1


def test_unprepared_data_says_so():
    with pytest.raises(DataError, match=r"call prepare\(\) first"):
        TableData.from_frame(FRAME, target="y").num_items("train")


def test_fingerprint_is_of_the_data_and_its_splits():
    fingerprint = table().fingerprint()

    assert table(seed=7).fingerprint() == fingerprint
    assert table(set_size=11).fingerprint() == fingerprint
    others = [table(FRAME.assign(n=0.5)), table(split_seed=1), table(drop=("m",)), table(FRAME[::-1])]
    assert len({fingerprint, *(data.fingerprint() for data in others)}) == 5


def test_several_targets_are_predicted_together():
    data = table(target=("m", "y"))

    assert [type(field) for field in data.spec.targets] == [Continuous, Categorical]
    assert len(data.spec.inputs) == 2


def test_ten_thousand_categories_are_fine():
    frame = pd.DataFrame({"zip": [f"z{i:05}" for i in range(10_000)] * 2, "y": [0, 1] * 10_000})

    assert table(frame).spec.inputs[0].categories[-1] == "z09999"


def test_rows_without_a_target_are_left_out_on_request(caplog):
    frame = FRAME.copy()
    frame.loc[[3, 7], "y"] = None

    data = table(frame, drop_missing_targets=True, set_size="all", transductive=True)

    assert data.item("train", 0, 0)["row_id"].tolist() == [row for row in range(ROWS) if row not in (3, 7)]
    assert "leaving out 2 of 53 rows without a target" in caplog.messages


@pytest.mark.parametrize(
    ("frame", "layout", "message"),
    [
        (FRAME, {"target": "z"}, 'data.target: there is no column "z".*The columns are: y, n, c, m'),
        (FRAME.rename(columns={"y": "ill"}), {"target": "il"}, 'no column "il"; did you mean "ill"'),
        (FRAME, {"drop": ("q",)}, 'data.drop: there is no column "q"'),
        (FRAME, {"categorical": ("q",)}, 'data.categorical: there is no column "q"'),
        (FRAME, {"split_column": "q"}, 'data.split_column: there is no column "q"'),
        (FRAME, {"target": None}, "data.target must name the column to predict, one of: y, n, c, m"),
        (FRAME, {"drop": ("y",)}, '"y" cannot be the target and be left out'),
        (FRAME, {"drop": ("n", "c", "m")}, "nothing to predict from"),
        (FRAME[:0], {}, "the table is empty: it has 4 columns and no rows"),
        (
            FRAME.assign(y=[None, "?", ""] + ["a", "b"] * 25),
            {},
            r'target "y" is missing in 3 of 53 rows \(rows 0, 1, 2, counted from 0\); .*data.drop_missing_targets=true',
        ),
        (FRAME.assign(y=None), {"drop_missing_targets": True}, r"no row of the table has all of its targets \(y\)"),
        (FRAME.assign(y="yes"), {}, 'target "y" has one class only, "yes", in all rows'),
        (FRAME.assign(y=1), {}, 'target "y" has one class only, "1", in all rows'),
        (FRAME, {"continuous": ("c",)}, r'column "c" should hold numbers, but has "b" \(row 1\)'),
        (FRAME.assign(n=[math.inf] + [0.5] * 52), {}, 'column "n" has 1 infinite values, the first in row 0'),
        (FRAME.set_axis(["y", "n", "c", "n"], axis=1), {}, "column names must be unique; given more than once: n"),
        (FRAME, {"target": ("y", "m"), "set_size": 11, "balance_classes": True}, "balance_classes=true needs exactly"),
    ],
)
def test_mistakes_are_one_clear_message(frame, layout, message):
    with pytest.raises(DataError, match=message):
        table(frame, **layout)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of path, openml and sklearn must name the table; none is given"),
        ({"path": "a.csv", "target": "y", "sklearn": "iris"}, "given: path, sklearn"),
        ({"path": "a.csv"}, "target must name the column to predict"),
        ({"sklearn": "iris", "separator": "tab"}, "they need path"),
        ({"openml": 31, "openml_version": 2}, "needs openml to be a name"),
        ({"sklearn": "iris", "folds": 5, "test_fraction": 0.2}, "test_fraction and folds both decide which rows test"),
        ({"sklearn": "iris", "folds": 5, "fold": 5}, "fold=5 does not exist; allowed: 0 to 4"),
        ({"sklearn": "iris", "fold": 1}, "fold=1 does not exist; allowed: 0 only, as folds is not given"),
        ({"sklearn": "iris", "test_fraction": 0.7, "val_fraction": 0.3}, "leave no row to train on"),
        ({"sklearn": "iris", "categorical": ["a"], "continuous": ["a"]}, '"a" is listed as categorical and as'),
        ({"sklearn": "iris", "transductive": True}, "transductive=true needs sets of rows: give set_size"),
        ({"sklearn": "iris", "balance_classes": True}, "balance_classes=true needs sets of rows"),
        ({"sklearn": "iris", "set_size": 1}, "greater than or equal to 2"),
        ({"sklearn": "boston"}, "Input should be 'breast_cancer'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        TableOptions(**options)


def test_breast_cancer_follows_the_ten_fold_protocol():
    tested = []
    for fold in range(10):
        options = TableOptions(
            sklearn="breast_cancer", folds=10, fold=fold, val_fraction=0.2, set_size="all", transductive=True
        )
        data = build_table(options, seed=0)
        data.prepare()
        item = data.item("train", 0, 0)
        malignant = [int((item["codes"][item["split"] == split, -1] == 1).sum()) for split in (TRAIN, VAL, TEST)]
        sizes = [int((item["split"] == split).sum()) for split in (TRAIN, VAL, TEST)]
        assert sizes[1] == 114
        assert sizes[2] in (56, 57)
        assert all(abs(part - 212 * size / 569) < 1 for part, size in zip(malignant, sizes, strict=True))
        tested.append(item["row_id"][item["split"] == TEST])

    assert data.spec.targets == (Categorical("target", ("benign", "malignant")),)
    assert len(data.spec.inputs) == 30
    assert sorted(torch.cat(tested).tolist()) == list(range(569))


def test_new_rows_are_items_like_any_other():
    data = table()

    items = data.prediction_items(FRAME.drop(columns="y")[:5], data.spec)

    assert len(items) == 5
    batch = data.collate(items)
    assert batch["values"].shape == (5, 4)
    assert batch["missing"][:, 3].all()


def test_new_rows_are_predicted_in_the_context_of_the_table():
    data = table(set_size="all", transductive=True)

    (item,) = data.prediction_items(FRAME.drop(columns="y")[:5], data.spec)

    assert item["split"].tolist() == [*data.row_splits.tolist(), *[PREDICT] * 5]
    assert item["row_id"].tolist() == [*range(ROWS), *range(5)]
    assert torch.equal(item["values"][ROWS:, :3], item["values"][:5, :3])
    assert item["missing"][:, 3].tolist() == [False] * ROWS + [True] * 5
    assert same(
        data.collate([item]),
        {key: tensor[None] for key, tensor in item.items()} | {"present": torch.ones(1, ROWS + 5, dtype=torch.bool)},
    )


def test_many_new_rows_are_divided_into_sets():
    data = table(set_size=20, transductive=True)
    frame = pd.concat([FRAME] * 2).drop(columns="y")

    items = data.prediction_items(frame, data.spec)

    assert all(len(item["values"]) <= 20 for item in items)
    new = torch.cat([item["row_id"][item["split"] == PREDICT] for item in items])
    assert new.tolist() == list(range(2 * ROWS))
    assert all((item["split"] != PREDICT).sum() == 10 for item in items)
