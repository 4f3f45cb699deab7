"""Embedding and heads against one linear map for each column, as the published code has them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from setwise_npt.columns import Columns
from setwise_npt.config import NptOptions
from setwise_npt.embedding import ColumnEmbedding, ColumnHeads

_COLUMNS = Columns(sizes=(0, 3, 0, 1, 7, 5), targets=(1,))
_DIM, _SETS, _ROWS = 8, 2, 5


def _table() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (_SETS, _ROWS, len(_COLUMNS))
    sizes = torch.tensor(_COLUMNS.sizes)
    values = torch.randn(shape, generator=generator) * (sizes == 0)
    codes = (torch.rand(shape, generator=generator) * sizes).long()
    return values, codes, torch.rand(shape, generator=generator) < 0.3


def _embedding(**options: bool) -> ColumnEmbedding:
    torch.manual_seed(0)
    return ColumnEmbedding(_COLUMNS, NptOptions(column_dim=_DIM, num_heads=2, dropout=0.0, **options))


def _by_column(embedding: ColumnEmbedding, values: Tensor, codes: Tensor, masked: Tensor) -> Tensor:
    first, columns = 0, []
    for j, size in enumerate(_COLUMNS.sizes):
        slots = F.one_hot(codes[..., j], size).float() if size else values[..., j : j + 1]
        hidden = masked[..., j : j + 1]
        encoded = slots.masked_fill(hidden, 0.0)
        if embedding.mask_token:
            encoded = torch.cat([encoded, hidden.float()], -1)
        weight = embedding.table[first : first + encoded.shape[-1]].T
        first += encoded.shape[-1]
        column = F.linear(encoded, weight, embedding.bias[j])
        if embedding.types is not None:
            column = column + embedding.types.weight[int(size > 0)]
        if embedding.index is not None:
            column = column + embedding.index.weight[j]
        columns.append(column)
    cells = torch.stack(columns, 2)
    return cells if embedding.norm is None else embedding.norm(cells)


@pytest.mark.parametrize("mask_token", [True, False])
@pytest.mark.parametrize("extras", [True, False])
def test_embedding_equals_one_linear_map_for_each_column(mask_token: bool, extras: bool):
    embedding = _embedding(
        mask_token=mask_token, type_embedding=extras, index_embedding=extras, embedding_norm=not extras
    )
    torch.testing.assert_close(embedding(*_table()), _by_column(embedding, *_table()))


def test_gradients_of_the_embedding_equal_those_of_linear_maps():
    embedding = _embedding()
    parameters = list(embedding.parameters())
    upstream = torch.randn(_SETS, _ROWS, len(_COLUMNS), _DIM)
    ours = torch.autograd.grad(embedding(*_table()), parameters, upstream)
    theirs = torch.autograd.grad(_by_column(embedding, *_table()), parameters, upstream)
    for gradient, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("mask_token", [True, False])
def test_what_lies_in_a_masked_cell_is_never_seen(mask_token: bool):
    embedding = _embedding(mask_token=mask_token)
    values, codes, masked = _table()
    others = torch.where(masked, torch.nan, values), torch.where(masked & (codes > 0), 0, codes), masked
    cells = embedding(*others)
    assert cells.equal(embedding(values, codes, masked))
    cells.sum().backward()
    assert embedding.table.grad is not None
    assert embedding.table.grad.isfinite().all()


def test_columns_of_one_type_have_no_type_embedding():
    options = NptOptions(column_dim=_DIM, num_heads=2)
    assert ColumnEmbedding(Columns((0, 0, 0), (0,)), options).types is None
    assert ColumnEmbedding(Columns((2, 3), (0,)), options).types is None
    assert ColumnEmbedding(Columns((0, 3), (0,)), options).types is not None


def test_initial_weights_are_distributed_as_those_of_a_linear_map_for_each_column():
    torch.manual_seed(0)
    columns = Columns((0, 97, 3), (0,))
    embedding = ColumnEmbedding(columns, NptOptions(column_dim=128))
    for rows, slots in ((slice(0, 2), 2), (slice(2, 100), 98), (slice(100, 104), 4)):
        weights = embedding.table[rows].detach()
        assert weights.abs().max() <= slots**-0.5
        torch.testing.assert_close(weights.std(), torch.tensor((3 * slots) ** -0.5), rtol=0.1, atol=0)
    assert embedding.bias[0].abs().max() > 98**-0.5


def test_heads_equal_one_linear_map_for_each_column():
    torch.manual_seed(0)
    heads = ColumnHeads(_COLUMNS, dim=_DIM)
    cells = torch.randn(_SETS, _ROWS, len(_COLUMNS), _DIM)
    outputs = heads(cells)
    for place, j in enumerate(_COLUMNS.numeric):
        expected = cells[:, :, j] @ heads.numeric_weight[place] + heads.numeric_bias[place]
        torch.testing.assert_close(_COLUMNS.column(outputs, j)[..., 0], expected)
    for number, bucket in enumerate(_COLUMNS.buckets):
        head = heads.buckets[number]
        for place, j in enumerate(bucket.columns):
            size = _COLUMNS.sizes[j]
            expected = F.linear(cells[:, :, j], head.weight[place, :size], head.bias[place, :size])
            torch.testing.assert_close(_COLUMNS.column(outputs, j), expected)
            assert outputs.categorical[number][:, :, place, size:].eq(-torch.inf).all()


def test_weights_of_categories_that_do_not_exist_are_zero_and_stay_so():
    heads = ColumnHeads(Columns((5, 7), (0,)), dim=_DIM)
    (logits,) = heads(torch.randn(1, _ROWS, 2, _DIM)).categorical
    F.cross_entropy(logits.flatten(0, 2), torch.zeros(2 * _ROWS, dtype=torch.int64)).backward()
    (head,) = heads.buckets
    for tensor in (head.weight, head.bias, head.weight.grad, head.bias.grad):
        assert tensor[0, 5:].eq(0).all()
        assert tensor[1, 7:].eq(0).all()
        assert tensor[0, :5].ne(0).any()


def test_a_table_without_numbers_has_no_numeric_outputs():
    heads = ColumnHeads(Columns((2, 3), (0,)), dim=_DIM)
    assert heads(torch.randn(_SETS, _ROWS, 2, _DIM)).numeric.shape == (_SETS, _ROWS, 0)
