"""Labelled images as datasets, with augmentation that is a function of (seed, epoch, index)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from setwise.data import sampling
from setwise.data.dataset import AbstractDataModule, require_indices, require_split
from setwise.data.image_sources import SourceImages, read_digits, read_torchvision
from setwise.data.spec import Categorical, DataSpec, Image
from setwise.errors import DataError

if TYPE_CHECKING:
    from setwise.options import DigitsOptions, ImageOptions

_STATISTICS_CHUNK = 4096  # images whose pixels are counted at once, to bound the memory that takes


@dataclass(frozen=True)
class _Prepared:
    source: SourceImages
    spec: DataSpec
    rows_of_split: dict[str, np.ndarray]
    mean: Float[Tensor, "channels 1 1"]
    std: Float[Tensor, "channels 1 1"]


@final
class ImageData(AbstractDataModule):
    """Labelled images.

    An item has ``image`` (channels, height, width) float32, in [0, 1] or normalised, and ``label`` int64, the index
    of its class. Train images are changed at random as ``options.augment`` says, others never.

    Args:
        options: splits, augmentation and normalisation.
        seed: what the order of images and their augmentation derive from. The splits derive from
            ``options.split_seed``.
        read: returns the images; called once, by :meth:`prepare`.
        test_fraction: share of the images that test, where the source has no test images of its own.

    Example:
        >>> from setwise.options import DigitsOptions
        >>> data = build_digits(DigitsOptions(), seed=0)
        >>> data.prepare()
        >>> data.item("train", epoch=0, index=0)["image"].shape
        torch.Size([1, 8, 8])
    """

    def __init__(
        self, options: ImageOptions, *, seed: int, read: Callable[[], SourceImages], test_fraction: float = 0.0
    ) -> None:
        super().__init__(seed=seed)
        self.options = options
        self.test_fraction = test_fraction
        self._read = read
        self._prepared: _Prepared | None = None

    def prepare(self) -> None:
        if self._prepared is not None:
            return
        source = self._read()
        rows_of_split = _split(source, self.options, self.test_fraction)
        _, *shape = source.images.shape
        mean, std = torch.zeros(shape[0], 1, 1), torch.ones(shape[0], 1, 1)
        if self.options.normalize:
            mean, std = _pixel_statistics(source, rows_of_split["train"])
        spec = DataSpec((Image("image", *shape),), (Categorical("label", source.classes),))
        self._prepared = _Prepared(source, spec, rows_of_split, mean, std)

    @property
    def spec(self) -> DataSpec:
        return self._ready.spec

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._ready.rows_of_split)

    def num_items(self, split: str, epoch: int = 0) -> int:
        require_split(split, self.splits)
        return len(self._ready.rows_of_split[split])

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        return {key: tensor[0] for key, tensor in self.batch(split, epoch, [index]).items()}

    def batch(self, split: str, epoch: int, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        indices = require_indices(indices, self.num_items(split, epoch), split)
        prepared = self._ready
        rows = torch.from_numpy(prepared.rows_of_split[split][indices])
        images = prepared.source.images[rows]
        if split == "train" and self.options.augment:
            images = torch.stack(
                [
                    self._augmented(image, sampling.item_generator(self.seed, split, epoch, int(index)))
                    for image, index in zip(images, indices, strict=True)
                ]
            )
        pixels = (images.float() / prepared.source.max_value - prepared.mean) / prepared.std
        return {"image": pixels, "label": prepared.source.labels[rows]}

    def fingerprint(self) -> str:
        source = self._ready.source
        digest = hashlib.sha256(repr((source.images.shape, source.classes, source.max_value)).encode())
        for array in (source.images.numpy(), source.labels.numpy(), *self._ready.rows_of_split.values()):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def _ready(self) -> _Prepared:
        if self._prepared is None:
            raise DataError("the images are not read yet; call prepare() first")
        return self._prepared

    def _augmented(self, image: UInt8[Tensor, "c h w"], generator: np.random.Generator) -> UInt8[Tensor, "c h w"]:
        try:
            from torchvision.transforms.v2 import functional
        except ImportError as error:
            raise DataError('data.augment needs torchvision: pip install "setwise[images]"') from error
        _, height, width = image.shape
        if "crop" in self.options.augment:
            padding = self.options.crop_padding
            top, left = generator.integers(-padding, padding, size=2, endpoint=True).tolist()
            image = functional.crop(image, top, left, height, width)  # black outside of the image
        if "flip" in self.options.augment and generator.random() < 0.5:
            image = functional.horizontal_flip(image)
        return image


def build_digits(options: DigitsOptions, *, seed: int) -> ImageData:
    """Build the dataset ``setwise/digits``."""
    return ImageData(options, seed=seed, read=read_digits, test_fraction=options.test_fraction)


def build_mnist(options: ImageOptions, *, seed: int) -> ImageData:
    """Build the dataset ``setwise/mnist``."""
    return ImageData(options, seed=seed, read=partial(read_torchvision, "mnist"))


def build_fashion_mnist(options: ImageOptions, *, seed: int) -> ImageData:
    """Build the dataset ``setwise/fashion-mnist``."""
    return ImageData(options, seed=seed, read=partial(read_torchvision, "fashion-mnist"))


def build_cifar10(options: ImageOptions, *, seed: int) -> ImageData:
    """Build the dataset ``setwise/cifar10``."""
    return ImageData(options, seed=seed, read=partial(read_torchvision, "cifar10"))


def build_cifar100(options: ImageOptions, *, seed: int) -> ImageData:
    """Build the dataset ``setwise/cifar100``."""
    return ImageData(options, seed=seed, read=partial(read_torchvision, "cifar100"))


def _split(source: SourceImages, options: ImageOptions, test_fraction: float) -> dict[str, np.ndarray]:
    """Return the images of each split, ascending; random splits keep the class proportions."""
    labels = source.labels.numpy()
    is_test = np.arange(len(labels)) >= len(labels) - source.num_test
    if not source.num_test:
        is_test[_draw(labels, round(test_fraction * len(labels)), options.split_seed, "test")] = True
    rest = np.flatnonzero(~is_test)
    num_val = round(options.val_fraction * len(rest)) if options.val_size is None else options.val_size
    if num_val >= len(rest):
        raise DataError(
            f"{num_val} validation images of the {len(rest)} that do not test leave none to train on; lower "
            "data.val_size or data.val_fraction"
        )
    val = rest[_draw(labels[rest], num_val, options.split_seed, "val")]
    rows = {"train": np.setdiff1d(rest, val, assume_unique=True), "val": val, "test": np.flatnonzero(is_test)}
    return {split: members for split, members in rows.items() if members.size}


def _draw(labels: np.ndarray, size: int, split_seed: int, split: str) -> np.ndarray:
    return sampling.stratified_sample(labels, size, seed=split_seed, number=("val", "test").index(split))


def _pixel_statistics(
    source: SourceImages, rows: np.ndarray
) -> tuple[Float[Tensor, "channels 1 1"], Float[Tensor, "channels 1 1"]]:
    """Return mean and std of each channel of some images scaled to [0, 1], from exact counts of pixel values."""
    levels = np.arange(256) / source.max_value
    images = source.images.numpy()
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, dtype=np.int64)
        for start in range(0, len(rows), _STATISTICS_CHUNK):
            chunk = images[rows[start : start + _STATISTICS_CHUNK], channel]
            counts += np.bincount(chunk.ravel(), minlength=256)
        shares = counts / counts.sum()
        mean = float(shares @ levels)
        std = float(np.sqrt(shares @ (levels - mean) ** 2))
        means.append(mean)
        stds.append(std if np.count_nonzero(counts) > 1 else 1.0)
    return (
        torch.tensor(means, dtype=torch.float32)[:, None, None],
        torch.tensor(stds, dtype=torch.float32)[:, None, None],
    )
