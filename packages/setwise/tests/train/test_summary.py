from __future__ import annotations

import math
from typing import Any

import pytest

from setwise.train.summary import format_duration, format_value, last_metrics, metric_names


def test_final_metrics_hide_what_came_before(run_records: list[dict[str, Any]]):
    assert last_metrics(run_records) == {
        "val": {"loss": 0.3, "accuracy": 0.75},
        "test": {"loss": 0.35, "accuracy": 0.71},
    }


def test_unfinished_run_gives_the_last_record_of_each_split(run_records: list[dict[str, Any]]):
    unfinished = [record for record in run_records if not record.get("final")]

    assert last_metrics(unfinished) == {"train": {"loss": 0.4}, "val": {"loss": 0.3, "accuracy": 0.75}}


def test_splits_come_in_the_order_of_their_use():
    records = [{"step": 1, "split": split, "loss": 0.5} for split in ("test", "other", "val", "train")]

    assert list(last_metrics(records)) == ["train", "val", "test", "other"]


def test_no_records_give_no_metrics():
    assert last_metrics([]) == {}
    assert metric_names({}) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (1.0, "1"),
        (1e-7, "1e-07"),
        (9999.5, "1e+04"),
        (54321.6, "54322"),
        (12345678.9, "1.235e+07"),
        (math.nan, "nan"),
        (1234567, "1,234,567"),
        (True, "yes"),
        (None, "-"),
        ("bf16-mixed", "bf16-mixed"),
    ],
)
def test_format_value(value: object, text: str):
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.9, "0:00:00"), (59.99, "0:00:59"), (3600, "1:00:00"), (359_999, "99:59:59")]
)
def test_format_duration(seconds: float | None, text: str):
    assert format_duration(seconds) == text
