"""The cache against a server on this machine that does all that servers on the network do wrong."""

import errno
import hashlib
import io
import logging
import os
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import rich.console

from setwise.data import cache as cache_module
from setwise.data.cache import Cache, file_sha256, link_or_copy, terminal_progress
from setwise.errors import DataError

CONTENT = bytes(range(256)) * 4096 + b"the end"  # several chunks
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; the first part of a path says how, `requests` lists (path, Range header)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []

    def url(self, how: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{how}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_):
        """Keep the test output clean."""

    def do_GET(self):
        how = self.path.split("/")[1]
        given_range = self.headers.get("Range")
        self.server.requests.append((how, given_range))
        start = int(given_range.removeprefix("bytes=").rstrip("-")) if given_range else 0
        number = sum(1 for each, _ in self.server.requests if each == how)
        if how == "missing":
            self.send_error(404)
        elif how == "busy" and number == 1:
            self.send_error(503)
        elif how == "wrong":
            self.send(b"x" * len(CONTENT), 0, ranges=False)
        elif how == "ranges-refused":
            self.send_error(416) if given_range else self.send(CONTENT, 0, ranges=False)
        elif how == "no-ranges":
            self.send(CONTENT, 0, ranges=False, cut=number == 1)
        else:
            self.send(CONTENT, start, cut=how == "always-cut" or (how == "cut" and number < 3))

    def send(self, content, start, *, ranges=True, cut=False):
        rest = content[start:]
        self.send_response(206 if start and ranges else 200)
        if start and ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if cut else rest)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache", backoff=0.0)


def fetch(cache, *urls, name="folder/file.bin", sha256=SHA256, size=SIZE):
    return cache.fetch(name, urls=urls, sha256=sha256, size=size)


def files(cache) -> set[str]:
    return {path.name for path in cache.folder.rglob("*") if path.is_file()}


def test_file_is_downloaded_once(server, cache):
    path = fetch(cache, server.url("good"))
    again = fetch(cache, server.url("good"))

    assert path == again == cache.folder / "folder" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert server.requests == [("good", None)]


def test_broken_connections_are_continued_where_they_broke(server, cache):
    path = fetch(cache, server.url("cut"))

    half = len(CONTENT) // 2
    three_quarters = half + (len(CONTENT) - half) // 2
    assert path.read_bytes() == CONTENT
    assert server.requests == [("cut", None), ("cut", f"bytes={half}-"), ("cut", f"bytes={three_quarters}-")]


def test_broken_connections_are_noticed_where_the_size_is_not_known(server, cache):
    assert fetch(cache, server.url("cut"), size=None).read_bytes() == CONTENT


def test_download_stopped_by_the_user_is_continued_by_the_next(server, cache):
    @contextmanager
    def stop_after_one_chunk(name, size):
        def show(received):
            raise KeyboardInterrupt

        yield show

    with pytest.raises(KeyboardInterrupt):
        fetch(Cache(cache.folder, progress=stop_after_one_chunk), server.url("good"))
    assert "file.bin" not in files(cache)

    assert fetch(cache, server.url("good")).read_bytes() == CONTENT
    assert server.requests == [("good", None), ("good", f"bytes={cache_module._CHUNK_BYTES}-")]


def test_server_without_ranges_sends_all_again(server, cache):
    path = fetch(cache, server.url("no-ranges"))

    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_server_that_refuses_the_range_is_asked_for_all(server, cache):
    part = cache.folder / "folder" / "file.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")

    assert fetch(cache, server.url("ranges-refused"), size=None).read_bytes() == CONTENT
    assert [given for _, given in server.requests] == [f"bytes={len(CONTENT) + 4}-", None]


def test_mirrors_are_tried_in_their_order(server, cache):
    path = fetch(cache, server.url("missing"), server.url("wrong"), server.url("good"))

    assert path.read_bytes() == CONTENT
    assert server.requests == [("missing", None), ("wrong", None), ("good", None)]


def test_mirror_that_cannot_be_reached_is_passed_over(server, cache):
    closed = Server()
    closed.server_close()

    assert fetch(cache, closed.url("good"), server.url("good")).read_bytes() == CONTENT


def test_busy_server_is_asked_again(server, cache):
    assert fetch(cache, server.url("busy")).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_wrong_rest_of_an_earlier_attempt_does_not_spoil_a_good_mirror(server, cache):
    part = cache.folder / "folder" / "file.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"wrong")

    assert fetch(cache, server.url("good")).read_bytes() == CONTENT
    assert server.requests == [("good", "bytes=5-"), ("good", None)]


def test_failure_names_every_mirror_with_its_reason_and_what_to_do(server, cache):
    with pytest.raises(DataError) as error:
        fetch(cache, server.url("missing"), server.url("wrong"), server.url("always-cut"))

    message = str(error.value)
    assert "cannot download folder/file.bin:" in message
    assert f"{server.url('missing')}: the server answered 404 Not Found" in message
    assert f"{server.url('wrong')}: it sent another file: sha256 " in message
    assert f"of {len(CONTENT)} bytes" in message
    assert f"place it at {cache.folder / 'folder' / 'file.bin'}" in message
    # Mirrors that do not have the file are not asked again, the one that broke off is.
    assert [how for how, _ in server.requests] == ["missing", "wrong", *["always-cut"] * 4]
    assert "file.bin" not in files(cache)


def test_rounds_are_further_and_further_apart(server, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(cache_module.time, "sleep", waited.append)

    with pytest.raises(DataError):
        fetch(Cache(tmp_path, backoff=0.5), server.url("always-cut"))

    assert waited == [0.5, 1.0, 2.0]


def test_damaged_file_in_the_cache_is_replaced(server, cache):
    path = fetch(cache, server.url("good"))
    path.write_bytes(b"damaged")

    assert fetch(cache, server.url("good")).read_bytes() == CONTENT


def test_offline_uses_what_is_there_and_says_how_to_place_the_rest(server, cache, monkeypatch):
    path = fetch(cache, server.url("good"))
    monkeypatch.setenv("SETWISE_OFFLINE", "1")

    assert fetch(cache, server.url("good")) == path
    with pytest.raises(DataError) as error:
        fetch(cache, "http://one/x", "http://two/x", name="other.bin")
    assert str(error.value) == (
        "other.bin is not on this machine, and SETWISE_OFFLINE forbids the network. Get it by hand from http://one/x "
        f"or http://two/x and place it at {cache.folder / 'other.bin'}"
    )
    assert len(server.requests) == 1


def own_copy(monkeypatch, tmp_path, content=CONTENT):
    path = tmp_path / "own" / "folder" / "file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setenv("SETWISE_DATA", str(tmp_path / "own"))
    return path


def test_own_copy_is_used_and_nothing_is_written(cache, monkeypatch, tmp_path):
    path = own_copy(monkeypatch, tmp_path)

    assert fetch(cache, "http://nowhere/") == path
    assert not cache.folder.exists()


def test_own_copy_that_is_another_file_is_refused(cache, monkeypatch, tmp_path):
    path = own_copy(monkeypatch, tmp_path, b"another")

    with pytest.raises(DataError, match=f"{path} is not the file it should be: its sha256 is .*, expected {SHA256}"):
        fetch(cache, "http://nowhere/")


@pytest.mark.parametrize("links", [True, False])
def test_file_appears_at_a_second_path_with_or_without_links(monkeypatch, tmp_path, links):
    if not links:

        def refuse(*_):
            raise OSError("no links here")

        monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    source, target = tmp_path / "file.bin", tmp_path / "new" / "folder" / "other.bin"
    source.write_bytes(CONTENT)

    link_or_copy(source, target)

    assert target.read_bytes() == CONTENT
    assert target.is_symlink() == links


def test_file_wanted_by_several_at_once_is_downloaded_once(server, cache):
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(fetch(cache, server.url("good")))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [path.read_bytes() == CONTENT for path in paths] == [True] * 3
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "make room, or set SETWISE_CACHE"), (errno.EACCES, "set SETWISE_CACHE to a folder you can write")],
)
def test_what_the_file_system_refuses_is_one_message(server, cache, monkeypatch, number, advice):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache_module.os, "fsync", refuse)

    with pytest.raises(DataError, match=f"cannot write .*file.bin.part: {os.strerror(number)}; {advice}"):
        fetch(cache, server.url("good"))
    assert "file.bin" not in files(cache)


def test_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match=r"cannot write .*; set SETWISE_CACHE to a folder you can write to"):
        fetch(Cache(tmp_path / "file"), "http://nowhere/")


def test_progress_is_told_all_bytes(server, cache):
    shown = []

    @contextmanager
    def progress(name, size):
        shown.append((name, size))
        yield shown.append

    fetch(Cache(cache.folder, progress=progress), server.url("good"))

    assert shown[0] == ("folder/file.bin", len(CONTENT))
    assert shown[1:] == sorted(shown[1:])
    assert shown[-1] == len(CONTENT)


def test_failures_of_mirrors_are_logged(server, cache, caplog):
    with caplog.at_level(logging.WARNING, "setwise.data.cache"):
        fetch(cache, server.url("missing"), server.url("good"))

    assert len(caplog.messages) == 1
    assert "404 Not Found" in caplog.text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_is_drawn_on_terminals_only(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: False)
    monkeypatch.setenv("TERM", "xterm")

    with terminal_progress("file.bin", 1000) as show:
        show(500)
        show(1000)

    assert ("file.bin" in stream.getvalue()) == stream.isatty()


def test_sha256_of_a_file_that_cannot_be_read_is_one_message(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone: No such file"):
        file_sha256(tmp_path / "gone")
