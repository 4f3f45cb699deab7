import pandas as pd
import pytest
import torch

from setwise.data.dataset import AbstractDataModule, require_indices, require_split, stack
from setwise.data.spec import DataSpec, PointSet
from setwise.errors import DataError, ShapeError


class Squares(AbstractDataModule):
    """Item i is i squared."""

    splits = ("train", "val")
    spec = DataSpec((PointSet("x", 1),))

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def num_items(self, split: str, epoch: int = 0) -> int:
        require_split(split, self.splits)
        return {"train": 101, "val": 7}[split]

    def item(self, split: str, epoch: int, index: int) -> dict[str, torch.Tensor]:
        require_indices([index], self.num_items(split), split)
        return {"x": torch.tensor([index**2])}

    def fingerprint(self) -> str:
        return "0" * 64


def test_train_order_is_a_permutation_that_changes_with_seed_and_epoch():
    orders = [tuple(Squares(seed=seed).order("train", epoch)) for seed in (0, 1) for epoch in (0, 1)]

    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(101)) for order in orders)
    assert orders[3] == tuple(Squares(seed=1).order("train", 1))


def test_other_splits_are_visited_in_ascending_order():
    assert list(Squares(seed=0).order("val", 5)) == list(range(7))


def test_batch_is_the_collated_items():
    assert Squares(seed=0).batch("train", 0, [2, 3, 5])["x"].tolist() == [[4], [9], [25]]


def test_stack_names_keys_that_differ():
    with pytest.raises(ShapeError, match=r"same keys: \['y'\] differ from \['x'\]"):
        stack([{"x": torch.zeros(2)}, {"y": torch.zeros(2)}])


def test_stack_names_shapes_that_differ():
    with pytest.raises(ShapeError, match=r"equal shapes, got \{'x': \[\(2,\), \(3,\)\]\}"):
        stack([{"x": torch.zeros(2), "y": torch.zeros(5)}, {"x": torch.zeros(3), "y": torch.zeros(5)}])


def test_stack_of_nothing_is_refused():
    with pytest.raises(ShapeError, match="at least one item"):
        stack([])


def test_rows_cannot_be_predicted_from_other_data_than_tables():
    with pytest.raises(DataError, match="Squares cannot read rows of a table"):
        Squares(seed=0).prediction_items(pd.DataFrame({"x": [1]}), DataSpec((PointSet("x", 2),)))


def test_unknown_split_is_named_with_the_known_ones():
    with pytest.raises(DataError, match='no split "vall"; the data has: train, val; did you mean "val"'):
        Squares(seed=0).num_items("vall")


@pytest.mark.parametrize("index", [-1, 7])
def test_item_out_of_range_is_refused(index):
    with pytest.raises(DataError, match=f'item {index} of split "val" does not exist; items are 0 to 6'):
        Squares(seed=0).item("val", 0, index)


def test_indices_of_nothing_are_refused():
    with pytest.raises(ShapeError, match="at least one item"):
        require_indices([], 7, "val")
