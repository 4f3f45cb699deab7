"""The one way in which setwise gets files from the network: verified, resumable, from several mirrors, once."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from setwise.data.locations import cache_folder, data_folder, is_offline, writing
from setwise.errors import DataError

logger = logging.getLogger(__name__)

ShowBytes = Callable[[int], None]
Progress = Callable[[str, int | None], AbstractContextManager[ShowBytes]]

_CHUNK_BYTES = 1 << 18
_TEMPORARY_CODES = {408, 425, 429, 500, 502, 503, 504}


class _RetryError(Exception):
    """This attempt failed; another one at the same mirror may succeed."""


class _MirrorError(Exception):
    """This mirror does not have the file."""


@contextmanager
def terminal_progress(name: str, size: int | None) -> Iterator[ShowBytes]:
    """Show a bar of the bytes received where standard error is a terminal, and nothing elsewhere.

    Args:
        name: what is downloaded.
        size: its bytes, where they are known.
    """
    if not sys.stderr.isatty():
        yield lambda received: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=size)
        yield lambda received: bar.update(task, completed=received)


class Cache:
    """Files from the network, kept in one folder.

    A file is looked for below ``SETWISE_DATA``, then below the cache folder, and downloaded to the latter if neither
    has it. A download is continued where an earlier one stopped, changes to the next mirror when one fails, is
    checked against its sha256, and appears under its name only when complete. Two processes that want one file
    download it once.

    Args:
        folder: where downloads go; None for the folder of :func:`setwise.data.locations.cache_folder`.
        num_rounds: how often all mirrors are tried in turn.
        backoff: seconds to wait before the second round; doubled before every further one.
        timeout: seconds without an answer after which a connection is given up.
        progress: called with the name and size of a download, returns a context that is told the bytes received.

    Example:
        >>> path = Cache().fetch(  # doctest: +SKIP
        ...     "text/shakespeare.txt",
        ...     urls=["https://example.org/input.txt", "https://mirror.example.org/input.txt"],
        ...     sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ...     size=1_115_394,
        ... )
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        num_rounds: int = 4,
        backoff: float = 1.0,
        timeout: float = 30.0,
        progress: Progress = terminal_progress,
    ) -> None:
        self.folder = cache_folder() if folder is None else folder
        self.num_rounds = num_rounds
        self.backoff = backoff
        self.timeout = timeout
        self.progress = progress

    def fetch(self, name: str, *, urls: Sequence[str], sha256: str, size: int | None = None) -> Path:
        """Return the path of a file, downloading it where it is not there yet. Do not write to it.

        Args:
            name: its path below ``SETWISE_DATA`` or the cache folder.
            urls: where it can be had, best first.
            sha256: of its bytes, in 64 hexadecimal digits.
            size: its bytes, where they are known.

        Raises:
            DataError: it cannot be had or written, or the copy in ``SETWISE_DATA`` is another file.
        """
        own = self._find_own(name, sha256)
        return own if own is not None else self._fetch_to_cache(name, urls, sha256, size)

    def _find_own(self, name: str, sha256: str) -> Path | None:
        """Return the user's own copy of a file, if there is one."""
        root = data_folder()
        path = root / name if root is not None else None
        if path is None or not path.is_file():
            return None
        found = file_sha256(path)
        if found != sha256:
            raise DataError(
                f"{path} is not the file it should be: its sha256 is {found}, expected {sha256}; replace it, or remove "
                "it to have the right one downloaded"
            )
        return path

    def _fetch_to_cache(self, name: str, urls: Sequence[str], sha256: str, size: int | None) -> Path:
        from filelock import FileLock

        target = self.folder / name
        if _is_intact(target, sha256):
            return target
        if is_offline():
            raise DataError(
                f"{name} is not on this machine, and SETWISE_OFFLINE forbids the network. {_by_hand(urls, target)}"
            )
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{target}.lock")
            lock.acquire()
        try:
            if not _is_intact(target, sha256):  # another process may have fetched it while this one waited
                self._download(name, target, urls, sha256, size)
        finally:
            lock.release()
        return target

    def _download(self, name: str, target: Path, urls: Sequence[str], sha256: str, size: int | None) -> None:
        part = target.with_name(f"{target.name}.part")
        mirrors, failures = list(urls), dict[str, str]()
        for round_number in range(self.num_rounds):
            if round_number and mirrors:
                time.sleep(self.backoff * 2 ** (round_number - 1))
            for url in tuple(mirrors):
                try:
                    continued = self._receive(name, url, part, size)
                    _check_received(part, sha256, continued=continued)
                except _RetryError as error:
                    failures[url] = str(error)
                except _MirrorError as error:
                    failures[url] = str(error)
                    mirrors.remove(url)
                else:
                    with writing(target):
                        part.replace(target)
                    return
                logger.warning("downloading %s from %s: %s", name, url, failures[url])
        reasons = "".join(f"\n  {url}: {reason}" for url, reason in failures.items())
        raise DataError(f"cannot download {name}:{reasons}\n{_by_hand(urls, target)}")

    def _receive(self, name: str, url: str, part: Path, size: int | None) -> bool:
        """Append to ``part`` what it lacks of the file at ``url``; return whether it had any of it before."""
        start = part.stat().st_size if part.exists() else 0
        if size is not None and start >= size:
            return True
        with self._open(url, start, part) as response:
            # A server that does not know ranges answers 200 and sends the file from its beginning.
            resumed = response.status == http.client.PARTIAL_CONTENT
            received = start if resumed else 0
            length = response.headers.get("Content-Length")
            total = size if size is not None else None if length is None else received + int(length)
            with (
                self.progress(name, total) as show,
                writing(part),
                part.open("ab" if resumed else "wb") as file,
            ):
                for chunk in _chunks(response):
                    file.write(chunk)
                    received += len(chunk)
                    show(received)
                file.flush()
                os.fsync(file.fileno())
        if total is not None and received < total:
            raise _RetryError(f"the connection was closed after {received} of {total} bytes")
        return resumed

    def _open(self, url: str, start: int, part: Path) -> http.client.HTTPResponse:
        headers = {"User-Agent": "setwise"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=self.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server answered {error.code} {error.reason}"
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink()  # it holds as much as this server has, or more, and is not the file: begin anew
                raise _RetryError(reason) from error
            raise (_RetryError if error.code in _TEMPORARY_CODES else _MirrorError)(reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise _RetryError(f"no connection: {getattr(error, 'reason', error)}") from error


def link_or_copy(source: Path, target: Path) -> None:
    """Make a file appear at a second path, for readers that insist on names and folders of their own.

    Raises:
        DataError: it cannot be written.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(source.resolve())
        except OSError:  # file systems and accounts without links
            shutil.copyfile(source, target)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in 64 hexadecimal digits.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _is_intact(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _check_received(part: Path, sha256: str, *, continued: bool) -> None:
    found = file_sha256(part)
    if found != sha256:
        part.unlink()
        # The wrong bytes may be those of an earlier attempt, at another mirror: this one gets a second chance.
        raise (_RetryError if continued else _MirrorError)(f"it sent another file: sha256 {found}, expected {sha256}")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _RetryError(f"the connection broke: {error}") from error
        if not chunk:
            return
        yield chunk


def _by_hand(urls: Sequence[str], target: Path) -> str:
    return f"Get it by hand from {' or '.join(urls)} and place it at {target}"
