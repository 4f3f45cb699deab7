"""The Non-Parametric Transformer (Kossen et al., *Self-Attention Between Datapoints*, NeurIPS 2021)."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from setwise.data.spec import DataSpec
from setwise.errors import ShapeError
from setwise_npt.block import MultiheadAttentionBlock
from setwise_npt.columns import ColumnOutputs, Columns
from setwise_npt.config import NptOptions
from setwise_npt.dropout import Dropout
from setwise_npt.embedding import ColumnEmbedding, ColumnHeads

_PATTERNS = {"hybrid": ("rows", "columns"), "rows": ("rows",), "columns": ("columns",)}


class NonParametricTransformer(nn.Module):
    """Predict every cell of a table from the whole table: attention between its rows and between its columns.

    Cells are embedded to (rows, columns, E). Attention between datapoints (ABD) sees a row as one token, columns * E
    wide; attention between attributes (ABA) sees a row as a sequence of its cells, each a token E wide, and no other
    row. After the last block each column has its own linear head. The outputs of rows do not depend on their order.

    Args:
        columns: the table's columns.
        options: see :class:`~setwise_npt.config.NptOptions`; the defaults are the published code's.

    Example:
        >>> import torch
        >>> columns = Columns(sizes=(0, 3), targets=(1,))
        >>> model = NonParametricTransformer(columns, NptOptions(column_dim=8, num_heads=2, num_layers=2)).eval()
        >>> values = torch.randn(1, 5, 2)
        >>> codes = torch.zeros(1, 5, 2, dtype=torch.int64)
        >>> hidden = torch.zeros(1, 5, 2, dtype=torch.bool)
        >>> outputs = model(values, codes, hidden)
        >>> columns.column(outputs, 1).shape
        torch.Size([1, 5, 3])
    """

    def __init__(self, columns: Columns, options: NptOptions) -> None:
        super().__init__()
        self.columns = columns
        self.options = options
        self.embedding = ColumnEmbedding(columns, options)
        pattern = _PATTERNS[options.layers]
        self.attends_between = tuple(pattern[layer % len(pattern)] for layer in range(options.num_layers))
        widths = {"rows": len(columns) * options.column_dim, "columns": options.column_dim}
        self.blocks = nn.ModuleList(MultiheadAttentionBlock(widths[what], options) for what in self.attends_between)
        self.dropout = Dropout(options.dropout)
        self.heads = ColumnHeads(columns, dim=options.column_dim)

    def forward(
        self,
        values: Float[Tensor, "sets rows columns"],
        codes: Int[Tensor, "sets rows columns"],
        masked: Bool[Tensor, "sets rows columns"],
        *,
        present: Bool[Tensor, "sets rows"] | None = None,
    ) -> ColumnOutputs:
        """Return outputs for every cell.

        Args:
            values: standardised numbers, 0 in categorical columns.
            codes: category indices, 0 in numeric columns.
            masked: cells the model must not see: hidden or missing.
            present: rows that are there; the others are padding. All when not given.

        Raises:
            ShapeError: the tensors are not all (sets, rows, columns) of this table.
        """
        if not (values.ndim == 3 and values.shape == codes.shape == masked.shape):
            raise ShapeError(
                "values, codes and masked must have one shape (sets, rows, columns), got "
                f"{tuple(values.shape)}, {tuple(codes.shape)} and {tuple(masked.shape)}"
            )
        if values.shape[2] != len(self.columns):
            raise ShapeError(f"the table has {values.shape[2]} columns, the model was built for {len(self.columns)}")
        cells = self.embedding(values, codes, masked)
        for block, what in zip(self.blocks, self.attends_between, strict=True):
            if what == "rows":
                cells = block(cells.flatten(2), mask=present).view_as(cells)
            else:  # a row is a set of its own here, so padding rows keep to themselves
                cells = block(cells.flatten(0, 1)).view_as(cells)
        return self.heads(self.dropout(cells))


def build_npt(options: NptOptions, *, data: DataSpec) -> NonParametricTransformer:
    """Build the model that a recipe names ``npt/npt``.

    Raises:
        DataError: the data is not a table.
    """
    return NonParametricTransformer(Columns.of(data), options)
