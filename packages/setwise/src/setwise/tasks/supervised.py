"""What supervised tasks share: taking a batch apart into what the model reads and what it is to predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from setwise.data.spec import DataSpec, Field
from setwise.errors import ConfigError

FieldT = TypeVar("FieldT", bound=Field)


def targets_of_kind(data: DataSpec, kind: type[FieldT], task: str) -> tuple[FieldT, ...]:
    """Return the targets of the data, all of one kind.

    Raises:
        ConfigError: there is none, or one is of another kind.
    """
    targets = tuple(field for field in data.targets if isinstance(field, kind))
    if not targets or len(targets) != len(data.targets):
        found = ", ".join(f"{field.name} ({type(field).__name__})" for field in data.targets) or "none"
        raise ConfigError(
            f"task {task} predicts {kind.__name__} targets; the data has: {found}. Choose another task.name, or "
            "declare the target's type with data.categorical or data.continuous"
        )
    return targets


def table_inputs(batch: Mapping[str, Tensor], data: DataSpec) -> dict[str, Tensor]:
    """Return the input columns of a batch of table rows, without the targets.

    Args:
        batch: ``values``, ``codes`` and ``missing`` (batch, columns), columns in the order of ``data.columns``.
        data: names the columns.

    Raises:
        ConfigError: the items are sets of rows instead of rows.
    """
    if batch["values"].dim() != 2:
        raise ConfigError(
            "this task takes single rows; the data serves sets of rows: remove data.set_size, or use a task of a model "
            "that attends between rows"
        )
    num_inputs = len(data.inputs)
    return {name: batch[name][:, :num_inputs] for name in ("values", "codes", "missing")}


def is_table(batch: Mapping[str, Tensor]) -> bool:
    """Whether a batch holds rows of a table, whose targets are columns of it."""
    return "codes" in batch
