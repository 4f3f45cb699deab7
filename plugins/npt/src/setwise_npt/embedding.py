"""Cells to vectors and back, for all columns of a table at once (Kossen et al., 2021, section 2.2 and appendix C.1).

The published code holds one linear map for each column and loops over them. A linear map of a one-hot code is a
row of its matrix, so here the maps of all columns lie in one table, and a cell is one row of it times one number.
Optimizers that look at whole tensors, as LAMB does for its trust ratio, thus see all columns as one layer.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from setwise_npt.columns import ColumnOutputs, Columns
from setwise_npt.config import NptOptions
from setwise_npt.dropout import Dropout


class ColumnEmbedding(nn.Module):
    r"""Embed every cell of a table.

    With ``x_j`` the value (or one-hot code) of column j and ``m_j`` its mask token,

    .. math:: h_j = W_j [x_j; m_j] + b_j + T[\mathrm{type}_j] + I_j

    where ``x_j`` is 0 and ``m_j`` is 1 in a masked cell. ``W_j``'s columns are the rows of ``table`` from
    ``first[j]`` on: the categories (or the one row that a number scales), then the mask token.

    Args:
        columns: the table's columns.
        options: ``column_dim``, ``mask_token``, ``type_embedding``, ``index_embedding``, ``embedding_norm``,
            ``norm_eps`` and ``dropout`` are read.
    """

    first: Tensor
    mask_slot: Tensor
    is_categorical: Tensor

    def __init__(self, columns: Columns, options: NptOptions) -> None:
        super().__init__()
        dim, num_columns = options.column_dim, len(columns)
        value_slots = torch.tensor(columns.sizes).clamp(min=1)
        slots = value_slots + int(options.mask_token)
        first = slots.cumsum(0) - slots
        self.mask_token = options.mask_token
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("mask_slot", first + value_slots * int(options.mask_token), persistent=False)
        self.register_buffer("is_categorical", torch.tensor(columns.sizes) > 0, persistent=False)
        # One nn.Linear(slots_j, dim) for each column would draw from +-1/sqrt(slots_j).
        bound = slots.float().rsqrt()[:, None]
        self.table = nn.Parameter(_uniform((int(slots.sum()), dim), bound.repeat_interleave(slots, dim=0)))
        self.bias = nn.Parameter(_uniform((num_columns, dim), bound))
        mixed = 0 < len(columns.numeric) < num_columns
        self.types = nn.Embedding(2, dim) if options.type_embedding and mixed else None
        self.index = nn.Embedding(num_columns, dim) if options.index_embedding else None
        self.norm = nn.LayerNorm(dim, eps=options.norm_eps) if options.embedding_norm else None
        self.dropout = Dropout(options.dropout, inplace=True)

    def forward(
        self,
        values: Float[Tensor, "sets rows columns"],
        codes: Int[Tensor, "sets rows columns"],
        masked: Bool[Tensor, "sets rows columns"],
    ) -> Float[Tensor, "sets rows columns dim"]:
        """Return the embedding of every cell.

        Args:
            values: standardised numbers; ignored in categorical columns and masked cells.
            codes: category indices, 0 in numeric columns; ignored in masked cells.
            masked: cells that are hidden or missing.
        """
        slot = torch.where(masked, self.mask_slot, self.first + codes)
        factor = torch.where(self.is_categorical, 1.0, values)
        factor = torch.where(masked, float(self.mask_token), factor)
        cells = F.embedding(slot, self.table) * factor.unsqueeze(-1) + self._per_column()
        if self.norm is not None:
            cells = self.norm(cells)
        return self.dropout(cells)

    def _per_column(self) -> Float[Tensor, "columns dim"]:
        shift = self.bias
        if self.types is not None:
            shift = shift + self.types(self.is_categorical.long())
        if self.index is not None:
            shift = shift + self.index.weight
        return shift


class ColumnHeads(nn.Module):
    r"""Read every column's output off its cells' vectors, ``y_j = W_j h_j + b_j``: a number, or logits.

    Args:
        columns: the table's columns.
        dim: width of a cell's vector.
    """

    numeric_index: Tensor

    def __init__(self, columns: Columns, *, dim: int) -> None:
        super().__init__()
        bound = torch.tensor(dim**-0.5)
        self.register_buffer("numeric_index", torch.tensor(columns.numeric, dtype=torch.int64), persistent=False)
        num_numeric = len(columns.numeric)
        self.numeric_weight = nn.Parameter(_uniform((num_numeric, dim), bound)) if num_numeric else None
        self.numeric_bias = nn.Parameter(_uniform((num_numeric,), bound)) if num_numeric else None
        self.buckets = nn.ModuleList(
            _BucketHead([columns.sizes[index] for index in bucket.columns], bucket.columns, bucket.width, dim)
            for bucket in columns.buckets
        )

    def forward(self, cells: Float[Tensor, "sets rows columns dim"]) -> ColumnOutputs:
        """Return the outputs of all columns."""
        return ColumnOutputs(self._numeric(cells), tuple(bucket(cells) for bucket in self.buckets))

    def _numeric(self, cells: Tensor) -> Float[Tensor, "sets rows numeric_columns"]:
        if self.numeric_weight is None or self.numeric_bias is None:
            return cells.new_empty((*cells.shape[:2], 0))
        numeric = cells.index_select(2, self.numeric_index)
        return torch.einsum("srnd,nd->srn", numeric, self.numeric_weight) + self.numeric_bias


class _BucketHead(nn.Module):
    """Logits of the categorical columns of one bucket, each padded with -inf to the bucket's width."""

    index: Tensor
    padding: Tensor

    def __init__(self, sizes: list[int], columns: tuple[int, ...], width: int, dim: int) -> None:
        super().__init__()
        padding = torch.arange(width) >= torch.tensor(sizes)[:, None]
        self.register_buffer("index", torch.tensor(columns), persistent=False)
        self.register_buffer("padding", padding, persistent=False)
        bound = torch.where(padding, 0.0, dim**-0.5)
        self.weight = nn.Parameter(_uniform((len(columns), width, dim), bound.unsqueeze(-1)))
        self.bias = nn.Parameter(_uniform((len(columns), width), bound))

    def forward(self, cells: Float[Tensor, "sets rows columns dim"]) -> Float[Tensor, "sets rows bucket_columns width"]:
        logits = torch.einsum("srkd,kwd->srkw", cells.index_select(2, self.index), self.weight) + self.bias
        return logits.masked_fill(self.padding, -torch.inf)


def _uniform(shape: tuple[int, ...], bound: Tensor) -> Tensor:
    """Draw from U(-bound, bound), the bound broadcast to the shape."""
    return (torch.rand(shape) * 2 - 1) * bound
