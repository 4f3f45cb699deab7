import hashlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setwise.data import encodings
from setwise.data.encodings import END_OF_TEXT, text_encoding
from setwise.errors import DataError

tiktoken = pytest.importorskip("tiktoken")

URLS = ("https://example.org/a", "https://example.org/b")
CONTENTS = {url: url.encode() for url in URLS}


def key(url: str) -> str:
    return hashlib.sha1(url.encode()).hexdigest()


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Two files make up the encoding gpt2; the list of what tiktoken found where it was told to look."""
    monkeypatch.setenv("SETWISE_DATA", str(tmp_path))
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SETWISE_OFFLINE", "1")
    files = {url: hashlib.sha256(content).hexdigest() for url, content in CONTENTS.items()}
    monkeypatch.setitem(encodings._FILES, "gpt2", files)
    asked = []

    def get_encoding(name):
        folder = Path(os.environ["TIKTOKEN_CACHE_DIR"])
        asked.append((name, {path.name: path.read_bytes() for path in folder.iterdir()}))

    monkeypatch.setattr(tiktoken, "get_encoding", get_encoding)
    return asked


def place(folder: Path, *urls: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for url in urls:
        (folder / key(url)).write_bytes(CONTENTS[url])


FOUND = [("gpt2", {key(url): content for url, content in CONTENTS.items()})]


@given(st.text())
def test_bytes_are_the_utf8_of_the_text(text):
    encoding = text_encoding("bytes")

    assert bytes(encoding.encode_ordinary(text)) == text.encode()


def test_bytes_have_a_token_for_the_end_of_a_text():
    encoding = text_encoding("bytes")

    assert encoding.n_vocab == 257
    assert encoding.encode(f"a{END_OF_TEXT}b", allowed_special={END_OF_TEXT}) == [97, 256, 98]
    assert encoding.decode([97, 256, 98]) == f"a{END_OF_TEXT}b"


def test_files_are_found_in_the_data_folder(asked, tmp_path):
    place(tmp_path / "tiktoken-cache", *URLS)

    text_encoding("gpt2")

    assert asked == FOUND
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


def test_files_are_found_wherever_each_is(asked, tmp_path, monkeypatch):
    place(tmp_path / "cache" / "tiktoken-cache", URLS[0])
    place(tmp_path / "own", URLS[1])
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "own"))

    text_encoding("gpt2")

    assert asked == FOUND
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path / "own")


def test_damaged_file_is_not_used(asked, tmp_path, monkeypatch):
    place(tmp_path / "own", *URLS)
    (tmp_path / "own" / key(URLS[0])).write_bytes(b"damaged")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "own"))

    with pytest.raises(DataError, match=f"tiktoken-cache/{key(URLS[0])} is not on this machine"):
        text_encoding("gpt2")
    assert asked == []


def test_missing_file_is_named_with_its_address(asked, tmp_path):
    place(tmp_path / "tiktoken-cache", URLS[0])

    with pytest.raises(DataError, match=f"SETWISE_OFFLINE forbids the network. Get it by hand from {URLS[1]}"):
        text_encoding("gpt2")


def test_unknown_encoding_is_named_with_the_known_ones():
    with pytest.raises(DataError, match=r'no encoding "gpt-2"; allowed: bytes, gpt2, .*; did you mean "gpt2"'):
        text_encoding("gpt-2")


def test_missing_tiktoken_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)

    with pytest.raises(DataError, match=r'text needs tiktoken: pip install "setwise\[text\]"'):
        text_encoding("bytes")
