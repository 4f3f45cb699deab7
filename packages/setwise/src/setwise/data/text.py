"""Texts as datasets: windows of consecutive tokens."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from setwise.data.dataset import AbstractDataModule, require_indices, require_split
from setwise.data.encodings import END_OF_TEXT, text_encoding
from setwise.data.locations import cache_folder, find_path, writing
from setwise.data.spec import DataSpec, Tokens
from setwise.errors import DataError
from setwise.seeding import derive_seed

if TYPE_CHECKING:
    from setwise.options import TextOptions


@dataclass(frozen=True)
class _Prepared:
    tokens: Integer[np.ndarray, " tokens"]  # memory-mapped
    bounds: dict[str, tuple[int, int]]  # the tokens of each split that has any
    spec: DataSpec
    fingerprint: str


@final
class TextData(AbstractDataModule):
    """Windows of a text, cut into consecutive parts to train, validate and test.

    An item has ``tokens`` (length + 1,) int64: a model reads the first ``length`` tokens and predicts the last
    ``length``. Windows of one epoch overlap in that one token only. Those to train on begin at another place in
    every epoch, a function of (seed, epoch), so that over the epochs a token is seen at all positions of a window.

    Several documents are joined by the token of ``<|endoftext|>``, which also stands for that mark in a text.

    Args:
        options: encoding, length of the windows and splits.
        seed: what the order of the windows and their beginning derive from.
        read: returns the documents; called once, by :meth:`prepare`.

    Example:
        >>> from setwise.options import TextOptions
        >>> data = build_text(TextOptions(source="stdlib-prose", length=32), seed=0)
        >>> data.prepare()
        >>> data.item("train", epoch=0, index=0)["tokens"].shape
        torch.Size([33])
    """

    def __init__(self, options: TextOptions, *, seed: int, read: Callable[[], list[str]]) -> None:
        super().__init__(seed=seed)
        self.options = options
        self._read = read
        self._prepared: _Prepared | None = None

    def prepare(self) -> None:
        if self._prepared is not None:
            return
        documents = self._read()
        digest = _hash(documents, self.options.encoding)
        tokens, vocab_size = _tokenised_once(documents, self.options.encoding, digest)
        bounds = _bounds(len(tokens), self.options)
        self._prepared = _Prepared(
            tokens=tokens,
            bounds=bounds,
            spec=DataSpec((Tokens("tokens", vocab_size, self.options.length),)),
            fingerprint=hashlib.sha256(repr((digest, bounds)).encode()).hexdigest(),
        )

    @property
    def spec(self) -> DataSpec:
        return self._ready.spec

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._ready.bounds)

    def num_items(self, split: str, epoch: int = 0) -> int:
        require_split(split, self.splits)
        start, stop = self._ready.bounds[split]
        num_windows = (stop - start - 1) // self.options.length
        # One window less to train on leaves room for windows that begin anywhere within the first.
        return max(1, num_windows - 1) if split == "train" else num_windows

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        return {key: tensor[0] for key, tensor in self.batch(split, epoch, [index]).items()}

    def batch(self, split: str, epoch: int, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        indices, length = require_indices(indices, self.num_items(split, epoch), split), self.options.length
        first = self._ready.bounds[split][0] + self._offset(split, epoch)
        starts = first + indices.astype(np.int64) * length
        windows = np.stack([self._ready.tokens[start : start + length + 1] for start in starts])
        return {"tokens": torch.from_numpy(windows.astype(np.int64))}

    def fingerprint(self) -> str:
        return self._ready.fingerprint

    @property
    def _ready(self) -> _Prepared:
        if self._prepared is None:
            raise DataError("the text is not read yet; call prepare() first")
        return self._prepared

    def _offset(self, split: str, epoch: int) -> int:
        """Return how many tokens of the split come before the first window of an epoch."""
        if split != "train":
            return 0
        start, stop = self._ready.bounds[split]
        unused = stop - start - 1 - self.num_items(split, epoch) * self.options.length
        generator = np.random.default_rng(derive_seed(self.seed, "offset", epoch))
        return int(generator.integers(min(unused, self.options.length - 1), endpoint=True))


def build_text(options: TextOptions, *, seed: int) -> TextData:
    """Build the dataset ``setwise/text``."""
    if options.path is not None:
        return TextData(options, seed=seed, read=partial(read_documents, options.path))
    return TextData(options, seed=seed, read=read_stdlib_prose)


def read_documents(path: str | Path) -> list[str]:
    """Read a text file, or all ``.txt`` files of a folder and the folders in it, in the order of their paths.

    Raises:
        DataError: it is not there, has no text, or is not UTF-8.
    """
    place = find_path(path)
    files = sorted(place.rglob("*.txt")) if place.is_dir() else [place]
    if not files:
        raise DataError(f"the folder {place} has no .txt files; name a file, or a folder that has some")
    documents = [_read_document(file) for file in files]
    if not any(documents):
        raise DataError(f"{place} is empty; a text needs at least one window of tokens per split")
    return [document for document in documents if document]


def read_stdlib_prose() -> list[str]:
    """Return the help topics of Python's standard library: about 460,000 characters of English, with its Python.

    Raises:
        DataError: this Python was installed without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            "this Python came without the help topics (pydoc_data); install them, or name a text with data.path"
        ) from error
    return [topics[name] for name in sorted(topics)]


def _read_document(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); convert it, for example with iconv"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error


def _hash(documents: Sequence[str], encoding: str) -> str:
    digest = hashlib.sha256(encoding.encode())
    for document in documents:
        content = document.encode()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _tokenised_once(documents: Sequence[str], name: str, digest: str) -> tuple[np.ndarray, int]:
    """Return the tokens of a text, memory-mapped from the cache folder, and the size of their vocabulary."""
    encoding = text_encoding(name)
    file = cache_folder("tokens") / f"{digest}.npy"
    if not file.exists():
        parts = [
            encoding.encode_to_numpy(text, allowed_special={END_OF_TEXT}, disallowed_special=()) for text in documents
        ]
        end = np.array([encoding.eot_token])
        joined = np.concatenate([piece for part in parts for piece in (end, part)][1:])
        dtype = np.uint16 if encoding.n_vocab <= 2**16 else np.uint32
        temporary = file.with_name(f"{digest}.{uuid.uuid4().hex}.npy")
        with writing(file):
            try:
                with temporary.open("wb") as opened:
                    np.save(opened, joined.astype(dtype))
                    opened.flush()
                    os.fsync(opened.fileno())
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
    return np.load(file, mmap_mode="r"), encoding.n_vocab


def _bounds(num_tokens: int, options: TextOptions) -> dict[str, tuple[int, int]]:
    num_val, num_test = round(options.val_fraction * num_tokens), round(options.test_fraction * num_tokens)
    num_train = num_tokens - num_val - num_test
    edges = {
        "train": (0, num_train),
        "val": (num_train, num_train + num_val),
        "test": (num_train + num_val, num_tokens),
    }
    wanted = {"train": 1.0, "val": options.val_fraction, "test": options.test_fraction}
    bounds = {split: edge for split, edge in edges.items() if wanted[split] > 0}
    for split, (start, stop) in bounds.items():
        if stop - start <= options.length:
            raise DataError(
                f"the text has {num_tokens} tokens, {stop - start} of them to {split}: a window of "
                f"data.length={options.length} needs {options.length + 1}; give more text, lower data.length, or set "
                f"data.{'val' if split == 'train' else split}_fraction to 0"
            )
    return bounds
