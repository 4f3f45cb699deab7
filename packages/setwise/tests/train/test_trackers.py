from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from setwise.errors import ConfigError, SetwiseError
from setwise.train.runs import RunFolder
from setwise.train.trackers import JsonlTracker, TensorBoardTracker, build_trackers


def record(step: int, split: str = "train", **values: Any) -> dict[str, Any]:
    return {"step": step, "epoch": 0, "time": step * 0.5, "split": split, "loss": 1 / step, **values}


def places(path: Path) -> list[tuple[int, str]]:
    return [(line["step"], line["split"]) for line in map(json.loads, path.read_text().splitlines())]


def test_records_are_lines_of_json_in_their_order(tmp_path: Path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    records = [record(1), record(2), record(2, "val", accuracy=0.5)]

    for item in records:
        tracker.log(item)

    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == records


def test_a_line_is_on_disk_before_close(tmp_path: Path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")

    tracker.log(record(1))

    assert places(tmp_path / "metrics.jsonl") == [(1, "train")]


def test_no_record_makes_no_file(tmp_path: Path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.rewind(0, keep_evaluations=True)
    tracker.close()

    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_become_null(tmp_path: Path):
    JsonlTracker(tmp_path / "metrics.jsonl").log({**record(1), "loss": math.nan, "norm": math.inf})

    written = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (written["loss"], written["norm"]) == (None, None)


def test_file_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "metrics.jsonl").mkdir()

    with pytest.raises(SetwiseError, match=r"cannot write .*metrics\.jsonl \(Is a directory\)"):
        JsonlTracker(tmp_path / "metrics.jsonl").log(record(1))


@pytest.mark.parametrize(
    ("keep_evaluations", "kept"),
    [
        (True, [(3, "train"), (3, "val"), (6, "train"), (6, "val")]),
        (False, [(3, "train"), (3, "val"), (6, "train")]),
    ],
)
def test_rewind_forgets_what_a_resumed_run_does_again(
    tmp_path: Path, keep_evaluations: bool, kept: list[tuple[int, str]]
):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    for step in (3, 6, 9):
        tracker.log(record(step))
        tracker.log(record(step, "val"))

    tracker.rewind(6, keep_evaluations=keep_evaluations)
    tracker.log(record(9))

    assert places(tmp_path / "metrics.jsonl") == [*kept, (9, "train")]


@pytest.mark.parametrize("keep_evaluations", [True, False])
def test_rewind_forgets_final_metrics_of_an_earlier_step(tmp_path: Path, keep_evaluations: bool):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.log(record(6))
    tracker.log(record(3, "test", final=True))

    tracker.rewind(6, keep_evaluations=keep_evaluations)

    assert places(tmp_path / "metrics.jsonl") == [(6, "train")]


def test_rewind_drops_a_line_cut_short(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    tracker.log(record(3))
    with path.open("a") as file:
        file.write('{"step": 6, "spl')

    tracker.rewind(6, keep_evaluations=True)
    tracker.log(record(6))

    assert places(path) == [(3, "train"), (6, "train")]


@pytest.fixture
def tensorboard_values(tmp_path: Path) -> Callable[[], dict[str, list[tuple[int, float]]]]:
    """Reads the event files back as TensorBoard does."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read() -> dict[str, list[tuple[int, float]]]:
        events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
        tags = events.Tags()["scalars"]
        return {tag: [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)] for tag in tags}

    return read


def test_tensorboard_gets_scalars_by_split_and_name(tmp_path: Path, tensorboard_values: Callable[[], dict]):
    tracker = TensorBoardTracker(tmp_path)
    tracker.log(record(2, lr=0.25))
    tracker.log(record(4, lr=0.125))
    tracker.log(record(4, "val", accuracy=0.5, auroc=None))
    tracker.close()

    assert tensorboard_values() == {
        "train/epoch": [(2, 0), (4, 0)],
        "train/loss": [(2, 0.5), (4, 0.25)],
        "train/lr": [(2, 0.25), (4, 0.125)],
        "val/epoch": [(4, 0)],
        "val/loss": [(4, 0.25)],
        "val/accuracy": [(4, 0.5)],
    }


def test_tensorboard_final_metrics_are_no_points_of_the_curves(tmp_path: Path, tensorboard_values: Callable[[], dict]):
    tracker = TensorBoardTracker(tmp_path)
    tracker.log(record(4, "val"))
    tracker.close()
    tracker.log({**record(4, "val"), "loss": 0.125, "final": True})
    tracker.close()

    values = tensorboard_values()
    assert values["val/loss"] == [(4, 0.25)]
    assert values["final/val/loss"] == [(4, 0.125)]
    assert "final/val/final" not in values


def test_tensorboard_resumed_run_replaces_what_came_after_the_checkpoint(
    tmp_path: Path, tensorboard_values: Callable[[], dict]
):
    first = TensorBoardTracker(tmp_path)
    for step in (2, 4, 8):
        first.log(record(step))
    first.close()

    second = TensorBoardTracker(tmp_path)
    second.rewind(4, keep_evaluations=True)
    second.log({**record(8), "loss": 0.75})
    second.close()
    second.log(record(8, "test", final=True))  # opens a file again: it must not hide step 8 as well
    second.close()

    values = tensorboard_values()
    assert values["train/loss"] == [(2, 0.5), (4, 0.25), (8, 0.75)]
    assert values["final/test/loss"] == [(8, 0.125)]


def test_metrics_jsonl_is_always_written(tmp_path: Path):
    (only,) = build_trackers((), tmp_path)
    only.log(record(1))

    assert places(RunFolder(tmp_path).metrics_path) == [(1, "train")]


def test_named_trackers_come_with_it(tmp_path: Path):
    pytest.importorskip("tensorboard")

    assert [type(tracker) for tracker in build_trackers(("tensorboard",), tmp_path)] == [
        JsonlTracker,
        TensorBoardTracker,
    ]


def test_unknown_tracker_is_refused_with_a_suggestion(tmp_path: Path):
    with pytest.raises(ConfigError, match='trackers names "tensorbord"; allowed: tensorboard; did you mean'):
        build_trackers(("tensorbord",), tmp_path)


def test_tracker_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)

    with pytest.raises(ConfigError, match=r"pip install 'setwise\[tensorboard\]'"):
        build_trackers(("tensorboard",), tmp_path)
