"""Run folders: plain files in ``runs/<plugin>/<recipe>/<time>-<id>/``."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setwise.errors import SetwiseError
from setwise.train.files import json_text, read_jsonl, read_text, write_atomically


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def info_path(self) -> Path:
        """What :meth:`info` reads."""
        return self.path / "run.json"

    @property
    def config_path(self) -> Path:
        """The resolved configuration; ``setwise train`` on it repeats the run."""
        return self.path / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line, see :mod:`setwise.train.trackers`."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints_path(self) -> Path:
        """One folder a checkpoint, named by its step."""
        return self.path / "checkpoints"

    @property
    def plots_path(self) -> Path:
        """PNG files."""
        return self.path / "plots"

    @property
    def report_path(self) -> Path:
        """The static report."""
        return self.path / "report.html"

    @property
    def name(self) -> str:
        """``<plugin>/<recipe>/<time>-<id>``."""
        return "/".join(self.path.parts[-3:])

    def create(self) -> None:
        """Make the folder.

        Raises:
            SetwiseError: it exists, or cannot be made.
        """
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            raise SetwiseError(
                f"cannot make the run folder {self.path} ({error.strerror}); choose another place with --runs FOLDER"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training the run at the same time; a killed process holds no lock.

        Raises:
            SetwiseError: another process is training it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise SetwiseError(
                f"{self.name} is being trained by another process; wait for it, or stop it and resume again"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def info(self) -> dict[str, Any]:
        """Return ``run.json``: versions, device, data fingerprint, seed, status, final metrics.

        Raises:
            SetwiseError: the file is missing or damaged.
        """
        try:
            info = json.loads(read_text(self.info_path))
        except json.JSONDecodeError as error:
            raise SetwiseError(f"{self.info_path} is damaged ({error}); restore the file or remove the run") from error
        if not isinstance(info, dict):
            raise SetwiseError(f"{self.info_path} holds no JSON object; restore the file or remove the run")
        return info

    def update_info(self, values: Mapping[str, Any]) -> None:
        """Merge values into ``run.json``, atomically."""
        merged = {**(self.info() if self.info_path.exists() else {}), **values}
        write_atomically(self.info_path, json_text(merged, indent=2) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the records logged so far."""
        return read_jsonl(self.metrics_path) if self.metrics_path.exists() else []


def new_run(root: Path, recipe: str) -> RunFolder:
    """Name a new run below ``root``; :meth:`RunFolder.create` makes the folder.

    Args:
        root: usually ``runs``.
        recipe: ``<plugin>/<recipe>``.
    """
    return RunFolder(root / recipe / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")


def find_runs(root: Path) -> Iterator[RunFolder]:
    """Yield the runs below ``root``, oldest first."""
    found = {path.parent for path in root.glob("**/run.json")}
    yield from (RunFolder(path) for path in sorted(found, key=lambda path: (path.name, path)))


def open_run(given: str, root: Path) -> RunFolder:
    """Return the run a user means: its folder, its id or the end of its name, or ``latest``.

    Raises:
        SetwiseError: no run, or more than one, fits.
    """
    if (Path(given) / "run.json").exists():
        return RunFolder(Path(given).resolve())
    runs = list(find_runs(root))
    if given == "latest" and runs:
        return RunFolder(runs[-1].path.resolve())
    fitting = [run for run in runs if run.name.endswith(given) or given in run.path.parts[-3:]]
    if len(fitting) == 1:
        return RunFolder(fitting[0].path.resolve())
    known = ", ".join(run.name for run in (fitting or runs)[-5:]) or "none"
    problem = f"fits {len(fitting)} runs" if fitting else "is no run folder and no run's id"
    raise SetwiseError(f'"{given}" {problem} below {root}; give a folder, an id, or "latest" (newest runs: {known})')
