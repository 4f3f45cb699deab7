"""Reading and writing the text files of a run: whole or not there, and JSON that every reader understands."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from setwise.errors import SetwiseError


def json_text(document: Any, *, indent: int | None = None) -> str:
    """Return a document as JSON. NaN and infinities, which JSON cannot say, become ``null``.

    Example:
        >>> json_text({"loss": float("nan"), "step": 7})
        '{"loss": null, "step": 7}'
    """
    return json.dumps(finite(document), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """Return plain data with None for numbers that JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old or the new content and nothing between.

    Raises:
        SetwiseError: the disk is full or the folder is not writable; the old content stands.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # what made the write fail may make this fail too, and is what the user must hear of
            temporary.unlink()
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> SetwiseError:
    """Return the error to raise when ``path`` could not be written."""
    return SetwiseError(f"cannot write {path} ({error.strerror}); free some space or choose another folder")


def read_text(path: Path) -> str:
    """Return the content of a text file.

    Raises:
        SetwiseError: the file is missing, not readable, or not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetwiseError(f"{path} cannot be read ({error}); is its folder a run folder?") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the records of a ``metrics.jsonl``; a last line cut short by a kill is left out.

    Raises:
        SetwiseError: the file cannot be read, or another line than the last is damaged.
    """
    lines = read_text(path).splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_record(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise SetwiseError(f"{path}:{number} is damaged ({error}); delete that line to go on") from error
    return records


def _record(line: str) -> dict[str, Any]:
    record = json.loads(line)
    if not (isinstance(record, dict) and isinstance(record.get("step"), int) and isinstance(record.get("split"), str)):
        raise ValueError('a record is a JSON object with "step" and "split"')
    return record
