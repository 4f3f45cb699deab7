"""What core itself registers, through the same hooks as any plugin: the names ``setwise/...``."""

from __future__ import annotations

from collections.abc import Iterable

from setwise.plugin import DatasetSpec, Ref, hookimpl


@hookimpl
def setwise_datasets() -> Iterable[DatasetSpec]:
    yield DatasetSpec(
        "table",
        Ref("setwise.data.tabular:build_table"),
        Ref("setwise.options:TableOptions"),
        "A table: a CSV or parquet file, an OpenML dataset, or one of scikit-learn's",
        licence="of the table",
        offline=True,
    )
