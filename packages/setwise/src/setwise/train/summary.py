"""What a run amounts to: its last metrics by split, and numbers and times as people read them. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

BOOKKEEPING = frozenset({"step", "epoch", "time", "split", "final", "lr", "steps_per_second"})
"""Keys of a record that say where it stands in the run and not how good the model is."""

_ORDER = {"train": 0, "val": 1, "test": 2}


def has_final(records: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the run was evaluated with its best weights, which is the last thing it does."""
    return any(record.get("final") for record in records)


def last_metrics(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return metrics by split and name, in the order train, val, test.

    Args:
        records: lines of ``metrics.jsonl``, oldest first.

    Returns:
        The final evaluations, made with the best weights; while there are none, the last line of each split.
        A value that was not finite is None.

    Example:
        >>> last_metrics([{"step": 1, "split": "val", "loss": 0.5}, {"step": 2, "split": "val", "loss": 0.25}])
        {'val': {'loss': 0.25}}
    """
    records = list(records)
    if has_final(records):
        records = [record for record in records if record.get("final")]
    last = {record["split"]: record for record in records}
    return {
        split: {name: value for name, value in last[split].items() if name not in BOOKKEEPING}
        for split in sorted(last, key=lambda split: (_ORDER.get(split, len(_ORDER)), split))
    }


def metric_names(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names that occur in any split, in the order they first occur.

    Example:
        >>> metric_names({"val": {"loss": 0.5, "auroc": 0.9}, "test": {"loss": 0.4, "accuracy": 0.8}})
        ['loss', 'auroc', 'accuracy']
    """
    return list(dict.fromkeys(name for values in metrics.values() for name in values))


def format_value(value: object) -> str:
    """Return a value for a person: four significant digits, whole numbers in full, a dash where there is none.

    Example:
        >>> [format_value(value) for value in (0.98765, 31415.9, 1234567, None)]
        ['0.9877', '31416', '1,234,567', '-']
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"
    return str(value)


def format_duration(seconds: float | None) -> str:
    """Return a time as ``hours:minutes:seconds``, a dash where there is none.

    Example:
        >>> format_duration(3723.4)
        '1:02:03'
    """
    if seconds is None:
        return "-"
    minutes, whole_seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{whole_seconds:02}"
