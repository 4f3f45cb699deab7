"""The layout of a table's columns."""

from __future__ import annotations

import pytest
import torch

from setwise.data.spec import Categorical, Continuous, DataSpec, Image
from setwise.errors import DataError
from setwise_npt.columns import Bucket, ColumnOutputs, Columns


def test_categorical_columns_share_a_bucket_up_to_the_next_power_of_two():
    columns = Columns(sizes=(5, 0, 8, 1, 3, 2, 4), targets=(0,))
    assert columns.numeric == (1,)
    assert columns.buckets == (Bucket(1, (3,)), Bucket(2, (5,)), Bucket(4, (4, 6)), Bucket(8, (0, 2)))


def test_columns_of_a_spec_are_its_inputs_then_its_targets():
    spec = DataSpec((Categorical("a", ("x", "y", "z")), Continuous("b")), (Categorical("c", ("n", "y")),))
    assert Columns.of(spec) == Columns(sizes=(3, 0, 2), targets=(2,))


def test_a_field_that_is_no_cell_is_refused_by_name():
    with pytest.raises(DataError, match='column "scan" is of type Image; NPT reads tables of Continuous and Categ'):
        Columns.of(DataSpec((Image("scan", 1, 2, 2),), (Continuous("b"),)))


def test_a_column_is_found_in_the_outputs_without_its_padding():
    columns = Columns(sizes=(0, 3, 0, 4), targets=(0,))
    logits = torch.arange(2 * 5 * 2 * 4.0).view(2, 5, 2, 4)
    outputs = ColumnOutputs(torch.arange(2 * 5 * 2.0).view(2, 5, 2), (logits,))
    assert columns.column(outputs, 2).equal(outputs.numeric[..., 1:])
    assert columns.column(outputs, 1).equal(logits[:, :, 0, :3])
    assert columns.column(outputs, 3).equal(logits[:, :, 1])


@pytest.mark.parametrize("index", [-1, 2])
def test_a_column_that_is_not_there_is_refused(index: int):
    outputs = ColumnOutputs(torch.zeros(1, 3, 2), ())
    with pytest.raises(DataError, match=f"column {index} does not exist; columns are 0 to 1"):
        Columns(sizes=(0, 0), targets=(0,)).column(outputs, index)


def test_constants_first_made_in_an_evaluation_serve_training():
    columns = Columns(sizes=(0, 7, 0), targets=(0,))
    with torch.inference_mode():
        columns.tensors(torch.device("cpu"))
    x = torch.ones(5, 3, requires_grad=True)
    x.index_select(1, columns.tensors(torch.device("cpu")).numeric).sum().backward()
    assert x.grad is not None
    assert x.grad[0].tolist() == [1, 0, 1]
