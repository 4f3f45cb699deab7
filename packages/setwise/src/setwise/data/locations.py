"""Where data lies on this machine, and whether the network may be used: three environment variables, read on use.

``SETWISE_DATA``
    A folder of data you keep yourself. Relative paths are looked up in it, and downloads are not repeated for files
    it has. It is only ever read.
``SETWISE_CACHE``
    The folder for downloads and for what is computed from data once. Default: the platform's cache folder.
``SETWISE_OFFLINE``
    ``1`` forbids all use of the network.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setwise.errors import ConfigError, DataError, suggest

_YES, _NO = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


def data_folder() -> Path | None:
    """Return the folder named by ``SETWISE_DATA``, or None where it is not set.

    Raises:
        DataError: it is set and there is no such folder.
    """
    value = os.environ.get("SETWISE_DATA", "")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataError(f"SETWISE_DATA={value} is not a folder; create it, correct the variable, or unset it")
    return folder


def cache_folder(*parts: str) -> Path:
    """Return the cache folder, or a folder below it, created where it does not exist.

    Raises:
        DataError: it cannot be created.
    """
    folder = _cache_root().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot create the cache folder {folder}: {error.strerror}; set SETWISE_CACHE to a folder you can write to"
        ) from error
    return folder


def is_offline() -> bool:
    """Return whether ``SETWISE_OFFLINE`` forbids the network.

    Raises:
        ConfigError: the variable is neither a yes nor a no.
    """
    value = os.environ.get("SETWISE_OFFLINE", "").strip().lower()
    if value in _YES | _NO:
        return value in _YES
    raise ConfigError(f"SETWISE_OFFLINE={value} must be 1 (no network) or 0 (the network may be used)")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses while ``path``, in the cache folder, is written into one message.

    Raises:
        DataError: an ``OSError`` was raised within.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "make room, or set SETWISE_CACHE to a folder on another disk; downloads continue where they were"
        else:
            advice = "set SETWISE_CACHE to a folder you can write to"
        raise DataError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def find_path(path: str | Path) -> Path:
    """Return an existing file or folder: ``path`` itself, or ``path`` below ``SETWISE_DATA``.

    Raises:
        DataError: it is in neither place; the message names the places and the nearest name there.
    """
    given = Path(path).expanduser()
    root = data_folder()
    places = [given] if root is None or given.is_absolute() else [given, root / given]
    for place in places:
        if place.exists():
            return place
    tried = " or ".join(str(place) for place in places)
    hint = next(filter(None, (_nearest_name(place) for place in places)), "")
    advice = "" if root is not None or given.is_absolute() else "; relative paths are also looked up in SETWISE_DATA"
    raise DataError(f"there is no file or folder {tried}{hint or advice}")


def _cache_root() -> Path:
    if value := os.environ.get("SETWISE_CACHE", ""):
        return Path(value).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("setwise", appauthor=False))


def _nearest_name(place: Path) -> str:
    if not place.parent.is_dir():
        return ""
    return suggest(place.name, sorted(entry.name for entry in place.parent.iterdir()))
