"""Encodings of text as tokens, all of them of tiktoken: bytes, which need no file, and those with a vocabulary."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from setwise.data.cache import Cache, file_sha256, link_or_copy
from setwise.errors import DataError, suggest

if TYPE_CHECKING:
    from tiktoken import Encoding

END_OF_TEXT = "<|endoftext|>"

_SERVER = "https://openaipublic.blob.core.windows.net"
# The files of an encoding and their sha256, as tiktoken itself demands them.
_FILES = {
    "gpt2": {
        f"{_SERVER}/gpt-2/encodings/main/vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        f"{_SERVER}/gpt-2/encodings/main/encoder.json": (
            "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
        ),
    },
    "cl100k_base": {
        f"{_SERVER}/encodings/cl100k_base.tiktoken": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    },
    "o200k_base": {
        f"{_SERVER}/encodings/o200k_base.tiktoken": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    },
}


def text_encoding(name: str) -> Encoding:
    """Return an encoding; the files it needs are downloaded where they are not there.

    ``"bytes"`` has 257 tokens: the bytes of the text in UTF-8, and the end of a text. Others are tiktoken's; their
    files are looked for in ``TIKTOKEN_CACHE_DIR``, and in ``tiktoken-cache`` below ``SETWISE_DATA`` and the cache
    folder.

    Raises:
        DataError: there is no such encoding, its files cannot be had, or tiktoken is not installed.

    Example:
        >>> text_encoding("bytes").encode_ordinary("é!")
        [195, 169, 33]
    """
    try:
        import tiktoken
    except ImportError as error:
        raise DataError('text needs tiktoken: pip install "setwise[text]"') from error
    if name == "bytes":
        # The pattern only cuts the text into pieces; no two bytes ever merge. Short pieces keep the work linear.
        ranks = {bytes([byte]): byte for byte in range(256)}
        return tiktoken.Encoding(
            "bytes", pat_str=r"(?s).{1,16}", mergeable_ranks=ranks, special_tokens={END_OF_TEXT: 256}
        )
    if name not in _FILES:
        allowed = ["bytes", *_FILES]
        raise DataError(f'there is no encoding "{name}"; allowed: {", ".join(allowed)}{suggest(name, allowed)}')
    with tempfile.TemporaryDirectory() as folder:
        for url, sha256 in _FILES[name].items():
            # tiktoken knows a file by this name. It reads all files of an encoding from one folder.
            key = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
            link_or_copy(_find_or_fetch(key, url, sha256), Path(folder) / key)
        with _environment("TIKTOKEN_CACHE_DIR", folder):
            return tiktoken.get_encoding(name)


def _find_or_fetch(key: str, url: str, sha256: str) -> Path:
    users = Path(os.environ.get("TIKTOKEN_CACHE_DIR", ""), key)
    if users.is_file() and file_sha256(users) == sha256:
        return users
    return Cache().fetch(f"tiktoken-cache/{key}", urls=[url], sha256=sha256)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while: the only way to tell tiktoken where its files are."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
