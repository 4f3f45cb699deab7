"""Trackers: where the lines of metrics go. ``metrics.jsonl`` is always written."""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setwise.errors import ConfigError, SetwiseError


class AbstractTracker(ABC):
    """Takes records such as ``{"step": 10, "epoch": 0, "time": 1.5, "split": "train", "loss": 0.3}``."""

    @abstractmethod
    def log(self, record: Mapping[str, Any]) -> None:
        """Take one record of JSON values."""

    def rewind(self, step: int, *, keep_evaluations: bool) -> None:
        """Forget what was logged after ``step``, because training goes on from there.

        Args:
            step: the step of the checkpoint that is resumed.
            keep_evaluations: whether evaluations at ``step`` itself happened before that checkpoint was written.
        """

    def close(self) -> None:
        """Write what is still held back."""


class JsonlTracker(AbstractTracker):
    """Appends one JSON object a line to a file. NaN and infinities become ``null``, which JSON can say.

    Args:
        path: the file; made when the first record comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = None

    def log(self, record: Mapping[str, Any]) -> None:
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8")
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()

    def rewind(self, step: int, *, keep_evaluations: bool) -> None:
        self.close()
        if not self.path.exists():
            return
        kept = [r for r in read_jsonl(self.path) if _is_before(r, step, keep_evaluations)]
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in kept)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoardTracker(AbstractTracker):
    """Writes scalars for TensorBoard, tagged ``<split>/<name>`` (extra ``setwise[tensorboard]``).

    Args:
        folder: the run folder; event files go to ``tensorboard/`` in it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                'trainer.trackers=["tensorboard"] needs TensorBoard, which is not installed; '
                "run: pip install 'setwise[tensorboard]'"
            ) from error
        self._open = SummaryWriter
        self._folder = str(folder / "tensorboard")
        self._writer: Any = None
        self._purge_step: int | None = None

    def log(self, record: Mapping[str, Any]) -> None:
        if self._writer is None:
            self._writer = self._open(self._folder, purge_step=self._purge_step)
        for name, value in record.items():
            if isinstance(value, int | float) and name not in ("step", "time"):
                self._writer.add_scalar(f"{record['split']}/{name}", value, record["step"])

    def rewind(self, step: int, *, keep_evaluations: bool) -> None:
        self.close()
        self._purge_step = step + 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def build_trackers(names: tuple[str, ...], folder: Path) -> list[AbstractTracker]:
    """Return the trackers of a run: ``metrics.jsonl`` and those named.

    Raises:
        ConfigError: a name's package is not installed.
    """
    known = {"tensorboard": TensorBoardTracker}
    return [JsonlTracker(folder / "metrics.jsonl"), *(known[name](folder) for name in names)]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the records of a ``metrics.jsonl``; a last line cut short by a kill is left out.

    Raises:
        SetwiseError: another line than the last is not JSON.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise SetwiseError(f"{path}:{number} is not JSON ({error.msg}); delete that line to go on") from error
    return records


def _is_before(record: Mapping[str, Any], step: int, keep_evaluations: bool) -> bool:
    if record["split"] == "train" or keep_evaluations:
        return record["step"] <= step and not record.get("final", False)
    return record["step"] < step
