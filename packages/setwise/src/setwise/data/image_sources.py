"""Reading labelled images: torchvision's datasets, downloaded through the cache, and scikit-learn's digits."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from setwise.data.cache import Cache, link_or_copy
from setwise.data.locations import cache_folder, data_folder
from setwise.errors import DataError


@dataclass(frozen=True)
class SourceImages:
    """Labelled images as they were read.

    Attributes:
        images: pixels from 0 to ``max_value``.
        labels: index of the class of each image.
        classes: names of the classes.
        max_value: the pixel value that is full brightness.
        num_test: how many of the last images are the dataset's own test images; 0 where it has none.
    """

    images: UInt8[Tensor, "images channels height width"]
    labels: Int[Tensor, " images"]
    classes: tuple[str, ...]
    max_value: int
    num_test: int


@dataclass(frozen=True)
class _File:
    """A file of a dataset: its path below torchvision's root, and what identifies its content."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class _Remote:
    """A dataset of torchvision: the name of its class, the folders it is served from, and its files."""

    dataset: str
    mirrors: tuple[str, ...]
    files: tuple[_File, ...]


_REMOTES = {
    "mnist": _Remote(
        "MNIST",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        (
            _File(
                "MNIST/raw/train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            _File(
                "MNIST/raw/train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            _File(
                "MNIST/raw/t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            _File(
                "MNIST/raw/t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
    "fashion-mnist": _Remote(
        "FashionMNIST",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        (
            _File(
                "FashionMNIST/raw/train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            _File(
                "FashionMNIST/raw/train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            _File(
                "FashionMNIST/raw/t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            _File(
                "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
    "cifar10": _Remote(
        "CIFAR10",
        (
            "https://www.cs.toronto.edu/~kriz/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        (
            _File(
                "cifar-10-python.tar.gz",
                170_498_071,
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            ),
        ),
    ),
    "cifar100": _Remote(
        "CIFAR100",
        ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        (
            _File(
                "cifar-100-python.tar.gz",
                169_001_437,
                "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            ),
        ),
    ),
}


def read_torchvision(name: str) -> SourceImages:
    """Read ``"mnist"``, ``"fashion-mnist"``, ``"cifar10"`` or ``"cifar100"``, downloading it where it is not there.

    Raises:
        DataError: it cannot be had, or torchvision is not installed.
    """
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataError(f'the dataset {name} needs torchvision: pip install "setwise[images]"') from error
    remote = _REMOTES[name]
    dataset = getattr(datasets, remote.dataset)
    own = data_folder()
    root = own / "torchvision" if own is not None and _is_unpacked(dataset, own / "torchvision") else None
    root = root or _unpack(dataset, name, remote)
    parts: list[Any] = [dataset(str(root), train=train, download=False) for train in (True, False)]
    images = torch.cat([_channels_first(part.data) for part in parts])
    labels = torch.cat([torch.as_tensor(part.targets, dtype=torch.int64) for part in parts])
    # torchvision calls the digits "0 - zero"
    classes = tuple(label.partition(" - ")[0] for label in parts[0].classes)
    return SourceImages(images, labels, classes, max_value=255, num_test=len(parts[1].data))


def read_digits() -> SourceImages:
    """Read the digits that come with scikit-learn: 1,797 images of 8 x 8 pixels from 0 to 16."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return SourceImages(images, labels, tuple("0123456789"), max_value=16, num_test=0)


def _is_unpacked(dataset: Any, root: Path) -> bool:
    try:
        dataset(str(root), train=False, download=False)
    except RuntimeError:  # how torchvision says that files are not there, or are damaged
        return False
    return True


def _unpack(dataset: Any, name: str, remote: _Remote) -> Path:
    """Return a torchvision root that has the dataset unpacked, which appears only when it is complete."""
    root = cache_folder("unpacked") / name
    if root.exists():
        return root
    cache = Cache()
    temporary = cache_folder("unpacked", f"{name}.{uuid.uuid4().hex}")
    try:
        for file in remote.files:
            urls = [mirror + Path(file.path).name for mirror in remote.mirrors]
            archive = cache.fetch(f"torchvision/{file.path}", urls=urls, sha256=file.sha256, size=file.size)
            link_or_copy(archive, temporary / file.path)
        dataset(str(temporary), download=True)  # finds the archives, and so only unpacks them
        for file in remote.files:
            (temporary / file.path).unlink()
        temporary.rename(root)
    except OSError as error:
        if not root.exists():  # another process may have been faster
            raise DataError(f"cannot unpack {name} to {root}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _channels_first(images: Tensor | np.ndarray) -> UInt8[Tensor, "images channels height width"]:
    pixels = torch.as_tensor(images)
    return pixels[:, None] if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2).contiguous()
