"""The columns of a table as the model, its objective and its predictions see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from setwise.data.spec import Categorical, Continuous, DataSpec
from setwise.errors import DataError


class Bucket(NamedTuple):
    """Categorical columns whose numbers of categories are at most ``width`` and share its power of two."""

    width: int
    columns: tuple[int, ...]


class ColumnOutputs(NamedTuple):
    """What a model says of every cell of a table.

    Attributes:
        numeric: for the columns ``Columns.numeric``, in standardised units.
        categorical: for each of ``Columns.buckets`` the logits of its columns, -inf where a column has no category.
    """

    numeric: Float[Tensor, "sets rows numeric_columns"]
    categorical: tuple[Float[Tensor, "sets rows bucket_columns width"], ...]


@dataclass(frozen=True)
class Columns:
    """Type, size and role of each column of a table.

    Categorical columns are grouped into buckets by the power of two at or above their number of categories, so
    that a model treats all columns of a bucket in one operation and wastes at most half of it on padding.

    Args:
        sizes: for each column 0 when it holds a number, else its number of categories.
        targets: indices of the columns to be predicted.

    Example:
        >>> columns = Columns(sizes=(0, 3, 0, 4, 2), targets=(4,))
        >>> columns.numeric, columns.buckets
        ((0, 2), (Bucket(width=2, columns=(4,)), Bucket(width=4, columns=(1, 3))))
    """

    sizes: tuple[int, ...]
    targets: tuple[int, ...]

    @classmethod
    def of(cls, data: DataSpec) -> Columns:
        """Read the columns of a table from its spec.

        Raises:
            DataError: a field is neither a number nor a category.
        """
        sizes = []
        for field in data.columns:
            if not isinstance(field, Continuous | Categorical):
                raise DataError(
                    f'column "{field.name}" is of type {type(field).__name__}; NPT reads tables of Continuous and '
                    "Categorical columns"
                )
            sizes.append(field.num_categories if isinstance(field, Categorical) else 0)
        num_inputs = len(data.inputs)
        return cls(tuple(sizes), tuple(range(num_inputs, len(sizes))))

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def numeric(self) -> tuple[int, ...]:
        """Indices of the columns that hold numbers."""
        return tuple(index for index, size in enumerate(self.sizes) if size == 0)

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """The categorical columns by padded number of categories, ascending."""
        members: dict[int, list[int]] = {}
        for index, size in enumerate(self.sizes):
            if size:
                members.setdefault(1 << (size - 1).bit_length(), []).append(index)
        return tuple(Bucket(width, tuple(members[width])) for width in sorted(members))

    def column(self, outputs: ColumnOutputs, index: int) -> Float[Tensor, "sets rows outputs"]:
        """Return the outputs for one column: its logits, or its one number.

        Raises:
            DataError: there is no such column.
        """
        if not 0 <= index < len(self):
            raise DataError(f"column {index} does not exist; columns are 0 to {len(self) - 1}")
        if index in self.numeric:
            place = self.numeric.index(index)
            return outputs.numeric[..., place : place + 1]
        for bucket, logits in zip(self.buckets, outputs.categorical, strict=True):
            if index in bucket.columns:
                return logits[..., bucket.columns.index(index), : self.sizes[index]]
        raise AssertionError("every column is numeric or in a bucket")

    def tensors(self, device: torch.device) -> ColumnTensors:
        """Return the layout as constants on a device; they are made once for each."""
        with torch.inference_mode(False):  # constants first made in an evaluation must serve training too
            return _tensors(self, device)


class ColumnTensors(NamedTuple):
    """A layout as constants on a device.

    Attributes:
        sizes: (columns,) number of categories, 0 for a number.
        is_target: (columns,) bool.
        numeric: indices of the numeric columns.
        buckets: indices of the columns of each bucket.
        order: position of every column in the concatenation of the numeric columns and the buckets.
    """

    sizes: Tensor
    is_target: Tensor
    numeric: Tensor
    buckets: tuple[Tensor, ...]
    order: Tensor


@lru_cache(maxsize=16)
def _tensors(columns: Columns, device: torch.device) -> ColumnTensors:
    def constant(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=device)

    grouped = list(columns.numeric) + [index for bucket in columns.buckets for index in bucket.columns]
    is_target = torch.zeros(len(columns), dtype=torch.bool, device=device)
    is_target[constant(columns.targets)] = True
    return ColumnTensors(
        sizes=constant(columns.sizes),
        is_target=is_target,
        numeric=constant(columns.numeric),
        buckets=tuple(constant(bucket.columns) for bucket in columns.buckets),
        order=torch.argsort(constant(grouped)),
    )
