"""The engines' contract: one process, and two that talk over gloo, compute the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from setwise.train.checkpoint import Checkpoint, CheckpointStore
from setwise.train.engine import process_count
from setwise.train.trainer import Trainer

PROGRAM = Path(__file__).with_name("several_processes.py")


def run_two_processes(strategy: str, *runs: tuple[Path, dict[str, object]]) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(PROGRAM)]
    done = subprocess.run(
        [*launch, strategy, json.dumps([[str(folder), options] for folder, options in runs])],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def newest(folder: Path) -> Checkpoint:
    return CheckpointStore(folder / "checkpoints").load_newest()[0]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_compute_what_one_does_and_either_resumes_the_other(
    make_trainer: Callable[..., Trainer], tmp_path: Path, strategy: str
) -> None:
    options = {"micro_batch_size": 1, "clip_norm": 0.5}  # batches of 5, 5, 5, 2: shares of 3 and 2, or 1 and 1
    alone = make_trainer("alone", **options)
    alone.fit()
    half = make_trainer("half", **options, max_steps=6)
    half.fit()
    run_two_processes(
        strategy,
        (tmp_path / "two", {**options, "max_steps": 6}),
        (tmp_path / "half", {**options, "resume": True}),  # saved by one, resumed by two
    )
    resumed = make_trainer("two", **options)  # saved by two, resumed by one
    resumed.resume()
    assert resumed.state.step == 6
    resumed.fit()
    expected = alone.engine.module.state_dict()
    for name, value in resumed.engine.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    for name, value in newest(tmp_path / "half").model.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    final = json.loads((tmp_path / "half" / "final.json").read_text())
    for split, values in alone.finish().items():
        assert final[split] == pytest.approx(values, rel=1e-3)


@pytest.mark.slow
def test_processes_without_a_batch_of_their_own_measure_what_one_process_does(
    make_trainer: Callable[..., Trainer], tmp_path: Path, median_squared_error: type
) -> None:
    options = {"batch_size": 8, "max_steps": 2, "sizes": {"test": 1}}  # 7 items to validate are less than a batch
    alone = make_trainer("alone", **options, task=median_squared_error())
    alone.fit()
    run_two_processes("ddp", (tmp_path / "two", {**options, "median": True}))
    final = json.loads((tmp_path / "two" / "final.json").read_text())
    for split, values in alone.finish().items():
        assert final[split] == pytest.approx(values, rel=1e-4)


@pytest.mark.parametrize(
    ("environment", "count"),
    [({}, 1), ({"WORLD_SIZE": "3"}, 3), ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, 4), ({"SLURM_NTASKS": "4"}, 1)],
)
def test_processes_are_counted_from_the_launcher(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], count: int
) -> None:
    for name in ("WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert process_count() == count
