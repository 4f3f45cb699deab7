"""Run folders made by hand, for all that reads them, and made-up plugins."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from setwise.registry import default_registry
from setwise.train.runs import RunFolder

CONFIG = "model:\n  name: npt/npt\n  dim: 64\noptimizer:\n  name: npt/lamb\n  lr: 1e-3\nseed: 0\n"


def train_record(step: int, loss: float | None, **values: Any) -> dict[str, Any]:
    place = {"step": step, "epoch": 0, "time": step * 0.5, "split": "train"}
    return {**place, "loss": loss, "lr": 0.001, "steps_per_second": 2.0, **values}


def evaluation_record(step: int, split: str = "val", **values: Any) -> dict[str, Any]:
    return {"step": step, "epoch": 0, "time": step * 0.5, "split": split, **values}


RECORDS = [
    train_record(7, 0.9),
    evaluation_record(7, loss=0.8, accuracy=0.5),
    train_record(13, 0.4),
    evaluation_record(13, loss=0.3, accuracy=0.75),
    evaluation_record(13, "val", loss=0.3, accuracy=0.75, final=True),
    evaluation_record(13, "test", loss=0.35, accuracy=0.71, final=True),
]

INFO = {
    "recipe": "npt/breast-cancer",
    "description": "Attention between the rows of a table.\nTest AUROC at least 0.98.",
    "status": "done",
    "stop_reason": "max_steps",
    "started": "2025-11-20T18:25:00+0000",
    "finished": "2025-11-20T18:26:03+0000",
    "seed": 5,
    "device": {"device": "cpu", "name": "Some Processor", "memory": 3 * 2**30, "threads": 2, "capability": None},
    "precision": "bf16-mixed",
    "precision_reason": "the processor has bf16 matrix units",
    "versions": {"python": "3.11.7", "setwise": "0.1.0"},
    "git_revision": "0123abc+",
    "data_fingerprint": "f" * 64,
    "num_parameters": 1234567,
    "elapsed": 3723.4,
    "step": 13,
    "best": {"step": 13, "value": 0.3, "monitor": "val/loss"},
    "final": {"val": {"loss": 0.3, "accuracy": 0.75}, "test": {"loss": 0.35, "accuracy": 0.71}},
    "sessions": [{"started": "2025-11-20T18:25:00+0000", "step": 0}],
}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """Writes a run folder below `tmp_path/"runs"`; a file given as None is left out."""

    def make(
        name: str = "npt/breast-cancer/20251120-182500-a1b2c3",
        *,
        info: Mapping[str, Any] | None = INFO,
        records: Iterable[Mapping[str, Any]] | None = RECORDS,
        config: str | None = CONFIG,
    ) -> RunFolder:
        run = RunFolder(tmp_path / "runs" / name)
        run.path.mkdir(parents=True)
        if info is not None:
            run.info_path.write_text(json.dumps(info), encoding="utf-8")
        if records is not None:
            run.metrics_path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        if config is not None:
            run.config_path.write_text(config, encoding="utf-8")
        return run

    return make


@pytest.fixture
def run_info() -> dict[str, Any]:
    return dict(INFO)


@pytest.fixture
def run_records() -> list[dict[str, Any]]:
    return [dict(record) for record in RECORDS]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Puts a made-up distribution with one plugin on `sys.path`: its files, and the metadata of a wheel.

    The plugin's module is the first file. What was imported from it is forgotten at the end, and so is the registry.
    """

    def install_distribution(
        distribution: str,
        plugin: str,
        files: Mapping[str, str],
        *,
        version: str = "1.0",
        target: str | None = None,
        group: str = "setwise.plugins.v1",
        site: str = "",
    ) -> Path:
        folder = tmp_path / (site or f"site-{distribution}")
        metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        module = target or next(iter(files)).removesuffix(".py").replace("/", ".")
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{plugin} = {module}\n")
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        return folder

    default_registry.cache_clear()
    yield install_distribution
    default_registry.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
