import numpy as np
import pytest
import torch

from setwise.data.sets import RowSets, collate_sets, prediction_sets
from setwise.data.splits import TEST, TRAIN, VAL
from setwise.errors import ShapeError

SPLITS = np.array([TRAIN] * 31 + [VAL] * 7 + [TEST] * 13, dtype=np.int8)[np.random.default_rng(0).permutation(51)]


def row_sets(set_size=11, transductive=True, classes=None, seed=0) -> RowSets:
    return RowSets(SPLITS, set_size=set_size, transductive=transductive, classes=classes, seed=seed)


def all_sets(sets: RowSets, split: str, epoch: int) -> list[np.ndarray]:
    return [sets.rows(split, epoch, index) for index in range(sets.num_sets(split))]


def test_transductive_sets_partition_all_rows_in_the_proportions_of_the_splits():
    for split in ("train", "val", "test"):
        sets = all_sets(row_sets(), split, epoch=3)
        mixes = np.array([np.bincount(SPLITS[rows], minlength=3) for rows in sets])

        assert len(sets) == 5
        assert sorted(np.concatenate(sets)) == list(range(51))
        assert (np.ptp(mixes, axis=0) <= 1).all()
        assert set(map(len, sets)) <= {10, 11}


@pytest.mark.parametrize(
    ("split", "visible"), [("train", {TRAIN}), ("val", {TRAIN, VAL}), ("test", {TRAIN, VAL, TEST})]
)
def test_other_sets_have_the_rows_visible_at_their_split(split, visible):
    sets = all_sets(row_sets(transductive=False), split, epoch=0)

    rows = np.concatenate(sets)
    assert sorted(rows) == np.flatnonzero(np.isin(SPLITS, list(visible))).tolist()
    mixes = np.array([np.bincount(SPLITS[each], minlength=3) for each in sets])
    assert (np.ptp(mixes, axis=0) <= 1).all()


def test_sets_are_reshuffled_each_epoch_as_a_function_of_the_seed():
    def key(epoch, seed=0):
        return tuple(map(tuple, all_sets(row_sets(seed=seed), "train", epoch)))

    assert len({key(0), key(1), key(0, seed=1)}) == 3
    assert key(1) == key(1)


def test_sets_do_not_depend_on_the_order_of_calls():
    used, fresh = row_sets(), row_sets()
    for epoch in (5, 2, 5):
        all_sets(used, "train", epoch)
        all_sets(used, "val", epoch)

    assert (used.rows("train", 2, 4) == fresh.rows("train", 2, 4)).all()


def test_balanced_sets_keep_class_proportions_of_train_rows_and_of_splits():
    classes = np.random.default_rng(1).choice(3, size=51, p=[0.6, 0.3, 0.1])

    sets = all_sets(row_sets(classes=classes), "train", epoch=0)

    train_classes = [np.bincount(classes[rows][SPLITS[rows] == TRAIN], minlength=3) for rows in sets]
    mixes = [np.bincount(SPLITS[rows], minlength=3) for rows in sets]
    assert (np.ptp(train_classes, axis=0) <= 1).all()
    assert (np.ptp(mixes, axis=0) <= 1).all()


def test_classes_of_rows_to_be_predicted_do_not_decide_the_sets():
    classes = np.random.default_rng(1).integers(0, 3, size=51)
    others = np.where(SPLITS == TRAIN, classes, 2 - classes)

    one, other = (all_sets(row_sets(classes=each), "train", epoch=0) for each in (classes, others))

    assert all((first == second).all() for first, second in zip(one, other, strict=True))


def test_the_whole_table_is_one_set_in_its_own_order():
    sets = row_sets(set_size="all")

    assert sets.num_sets("train") == 1
    assert sets.rows("train", 7, 0).tolist() == list(range(51))
    assert row_sets("all", transductive=False).rows("train", 0, 0).tolist() == np.flatnonzero(SPLITS == TRAIN).tolist()


def make_set(num_rows, offset):
    return {
        "values": torch.arange(num_rows * 3.0).view(num_rows, 3) + offset,
        "codes": torch.full((num_rows, 3), offset),
        "missing": torch.zeros(num_rows, 3, dtype=torch.bool),
        "split": torch.full((num_rows,), 2),
        "row_id": torch.arange(num_rows) + offset,
    }


def test_smaller_sets_are_padded_at_the_end():
    batch = collate_sets([make_set(5, 100), make_set(2, 200)])

    assert batch["present"].tolist() == [[True] * 5, [True] * 2 + [False] * 3]
    for key, padding in {"values": 0, "codes": 0, "missing": True, "split": -1, "row_id": -1}.items():
        assert torch.equal(batch[key][0], make_set(5, 100)[key])
        assert torch.equal(batch[key][1, :2], make_set(2, 200)[key])
        assert (batch[key][1, 2:] == padding).all()
        assert batch[key].dtype == make_set(1, 0)[key].dtype


def test_a_single_set_is_not_copied():
    item = make_set(5, 100)

    batch = collate_sets([item])

    assert batch["values"].data_ptr() == item["values"].data_ptr()
    assert batch["values"].shape == (1, 5, 3)
    assert batch["present"].tolist() == [[True] * 5]


def test_no_sets_are_no_batch():
    with pytest.raises(ShapeError, match="at least one set"):
        collate_sets([])


@pytest.mark.parametrize("set_size", [60, "all"])
def test_new_rows_that_fit_share_one_set_with_the_table(set_size):
    ((context, new),) = prediction_sets(SPLITS, 7, set_size=set_size, seed=0)

    assert context.tolist() == list(range(51))
    assert new.tolist() == list(range(7))


def test_a_small_table_is_the_context_of_every_set_of_new_rows():
    parts = prediction_sets(SPLITS, 23, set_size=61 + 50, seed=0)
    assert len(parts) == 1

    parts = prediction_sets(SPLITS[:11], 101, set_size=31, seed=0)

    assert all(context.tolist() == list(range(11)) for context, _ in parts)
    assert [len(new) for _, new in parts] == [20] * 5 + [1]
    assert np.concatenate([new for _, new in parts]).tolist() == list(range(101))


def test_context_of_a_large_table_is_half_a_set_with_its_proportions():
    parts = prediction_sets(SPLITS, 29, set_size=20, seed=0)

    assert np.concatenate([new for _, new in parts]).tolist() == list(range(29))
    assert all(len(context) + len(new) <= 20 for context, new in parts)
    for context, _ in parts:
        mix = np.bincount(SPLITS[context], minlength=3)
        assert (np.abs(mix - np.array([31, 7, 13]) * 10 / 51) < 1).all()
    assert any((parts[0][0] != context).any() for context, _ in parts[1:])


def test_no_new_rows_need_no_sets():
    assert prediction_sets(SPLITS, 0, set_size="all", seed=0) == []
    assert prediction_sets(SPLITS, 0, set_size=7, seed=0) == []
