"""Trackers: where the lines of metrics go. ``metrics.jsonl`` is always written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from setwise.errors import ConfigError, suggest
from setwise.train.files import cannot_write, json_text, read_jsonl, write_atomically


class AbstractTracker(ABC):
    """Takes records such as ``{"step": 10, "epoch": 0, "time": 1.5, "split": "train", "loss": 0.3}``."""

    @abstractmethod
    def log(self, record: Mapping[str, Any]) -> None:
        """Take one record of JSON values."""

    def rewind(self, step: int, *, keep_evaluations: bool) -> None:  # noqa: B027  # a tracker may have no memory
        """Forget what was logged after ``step``, because training goes on from there.

        Args:
            step: the step of the checkpoint that is resumed.
            keep_evaluations: whether evaluations at ``step`` itself happened before that checkpoint was written.
        """

    def close(self) -> None:  # noqa: B027  # nor anything held back
        """Write what is still held back."""


class JsonlTracker(AbstractTracker):
    """Appends one JSON object a line to a file. NaN and infinities become ``null``, which JSON can say.

    Args:
        path: the file; made when the first record comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def log(self, record: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json_text(record) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def rewind(self, step: int, *, keep_evaluations: bool) -> None:
        if self.path.exists():
            kept = [r for r in read_jsonl(self.path) if _is_before(r, step, keep_evaluations)]
            write_atomically(self.path, "".join(json_text(record) + "\n" for record in kept))


class TensorBoardTracker(AbstractTracker):
    """Writes scalars for TensorBoard, tagged ``<split>/<name>`` (extra ``setwise[tensorboard]``).

    The evaluations with the best weights are tagged ``final/<split>/<name>``: they are no points of the curves.

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
            self._purge_step = None  # a file opened later, for the final metrics, hides nothing of this session
        prefix = "final/" if record.get("final") else ""
        for name, value in record.items():
            if isinstance(value, int | float) and name not in ("step", "time", "final"):
                self._writer.add_scalar(f"{prefix}{record['split']}/{name}", value, record["step"])

    def rewind(self, step: int, *, keep_evaluations: bool) -> None:
        self.close()
        self._purge_step = step + 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def build_trackers(names: Sequence[str], folder: Path) -> list[AbstractTracker]:
    """Return the trackers of a run: ``metrics.jsonl`` and those named.

    Raises:
        ConfigError: a name is unknown, or its package is not installed.
    """
    known = {"tensorboard": TensorBoardTracker}
    for name in names:
        if name not in known:
            raise ConfigError(f'trainer.trackers names "{name}"; allowed: {", ".join(known)}{suggest(name, known)}')
    return [JsonlTracker(folder / "metrics.jsonl"), *(known[name](folder) for name in names)]


def _is_before(record: Mapping[str, Any], step: int, keep_evaluations: bool) -> bool:
    if record.get("final"):
        return False  # whatever its step, it was written after the end of training
    if record["split"] == "train" or keep_evaluations:
        return record["step"] <= step
    return record["step"] < step
