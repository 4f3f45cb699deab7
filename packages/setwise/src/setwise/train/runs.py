"""Run folders: plain files in ``runs/<plugin>/<recipe>/<time>-<id>/``."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setwise.errors import SetwiseError
from setwise.train.trackers import read_jsonl


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder; ``config.yaml``, ``run.json``, ``metrics.jsonl``, ``checkpoints/``, ``plots/``, ``report.html``.
    """

    path: Path

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

    def info(self) -> dict[str, Any]:
        """Return ``run.json``: versions, device, data fingerprint, seed, status, final metrics.

        Raises:
            SetwiseError: the file is missing or damaged.
        """
        try:
            return json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise SetwiseError(f"{self.path / 'run.json'} cannot be read ({error}); is this a run folder?") from error

    def update_info(self, values: Mapping[str, Any]) -> None:
        """Merge values into ``run.json``, atomically."""
        target = self.path / "run.json"
        merged = {**(self.info() if target.exists() else {}), **values}
        write_atomically(target, json.dumps(merged, indent=2) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the records logged so far."""
        return read_jsonl(self.metrics_path) if self.metrics_path.exists() else []


def create_run(root: Path, recipe: str) -> RunFolder:
    """Make a new run folder below ``root``.

    Args:
        root: usually ``runs``.
        recipe: ``<plugin>/<recipe>``.

    Raises:
        SetwiseError: the folder cannot be made.
    """
    path = root / recipe / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise SetwiseError(
            f"cannot make the run folder {path} ({error.strerror}); choose another place with --runs FOLDER"
        ) from error
    return RunFolder(path)


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
    problem = f'fits {len(fitting)} runs' if fitting else "is no run folder and no run's id"
    raise SetwiseError(f'"{given}" {problem} below {root}; give a folder, an id, or "latest" (newest runs: {known})')


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old or the new content and nothing between.

    Raises:
        SetwiseError: the disk is full or the folder is not writable; the old content stands.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SetwiseError(f"cannot write {path}: {error.strerror}; free some space or choose another folder") from error
