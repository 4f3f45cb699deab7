import hashlib
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from setwise.data import image_sources
from setwise.data.image_sources import read_torchvision
from setwise.errors import DataError

torchvision = pytest.importorskip("torchvision.datasets")


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    """A data folder and a cache folder of their own, and no network."""
    monkeypatch.setenv("SETWISE_DATA", str(tmp_path))
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SETWISE_OFFLINE", "1")
    return SimpleNamespace(data=tmp_path, cache=tmp_path / "cache")


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_unpacked_files_in_the_data_folder_are_read_where_they_are(folders):
    raw = folders.data / "torchvision" / "MNIST" / "raw"
    train, test = np.arange(3 * 28 * 28).reshape(3, 28, 28) % 251, np.ones((2, 28, 28))
    write_idx(raw / "train-images-idx3-ubyte", train)
    write_idx(raw / "train-labels-idx1-ubyte", np.array([7, 0, 9]))
    write_idx(raw / "t10k-images-idx3-ubyte", test)
    write_idx(raw / "t10k-labels-idx1-ubyte", np.array([1, 2]))

    source = read_torchvision("mnist")

    assert source.images.shape == (5, 1, 28, 28)
    assert torch.equal(source.images[:3, 0], torch.from_numpy(train.astype(np.uint8)))
    assert source.labels.tolist() == [7, 0, 9, 1, 2]
    assert source.classes == tuple("0123456789")
    assert (source.max_value, source.num_test) == (255, 2)
    assert not folders.cache.exists()


class Photographs:
    """Stands in for a torchvision dataset of colour images whose archive is one file."""

    classes = ("cat", "dog")

    def __init__(self, root, train=True, download=False):
        from pathlib import Path

        archive, unpacked = Path(root) / "photographs.bin", Path(root) / "photographs" / "data"
        if download:
            unpacked.parent.mkdir()
            unpacked.write_bytes(archive.read_bytes())
        if not unpacked.exists():
            raise RuntimeError("Dataset not found")
        number = 3 if train else 2
        self.data = np.frombuffer(unpacked.read_bytes(), np.uint8)[: number * 5 * 7 * 3].reshape(number, 5, 7, 3).copy()
        self.targets = [0, 1, 1][:number]


CONTENT = bytes(range(250)) * 2


@pytest.fixture
def photographs(folders, monkeypatch):
    monkeypatch.setattr(torchvision, "Photographs", Photographs, raising=False)
    file = image_sources._File("photographs.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    remote = image_sources._Remote("Photographs", ("http://one/", "http://two/"), (file,))
    monkeypatch.setitem(image_sources._REMOTES, "photographs", remote)
    (folders.data / "torchvision").mkdir()
    return folders


def test_archives_are_unpacked_in_the_cache_and_not_next_to_them(photographs):
    archive = photographs.data / "torchvision" / "photographs.bin"
    archive.write_bytes(CONTENT)

    source = read_torchvision("photographs")

    assert source.images.shape == (5, 3, 5, 7)
    assert source.images[0, :, 0, 0].tolist() == [0, 1, 2]  # channels moved to the front
    assert source.images.is_contiguous()
    assert source.labels.tolist() == [0, 1, 1, 0, 1]
    assert list(archive.parent.iterdir()) == [archive]
    unpacked = photographs.cache / "unpacked"
    assert [path.name for path in unpacked.iterdir()] == ["photographs"]
    assert [path.name for path in (unpacked / "photographs").iterdir()] == ["photographs"]


def test_unpacked_archives_are_not_needed_again(photographs):
    archive = photographs.data / "torchvision" / "photographs.bin"
    archive.write_bytes(CONTENT)
    first = read_torchvision("photographs")
    archive.unlink()

    assert torch.equal(read_torchvision("photographs").images, first.images)


def test_unpacking_that_fails_leaves_nothing_behind(photographs, monkeypatch):
    (photographs.data / "torchvision" / "photographs.bin").write_bytes(CONTENT)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.rename", full)

    with pytest.raises(DataError, match=r"cannot unpack photographs to .*: No space left on device"):
        read_torchvision("photographs")
    assert list((photographs.cache / "unpacked").iterdir()) == []


def test_unpacking_that_another_process_finished_first_is_fine(photographs, monkeypatch):
    (photographs.data / "torchvision" / "photographs.bin").write_bytes(CONTENT)
    rename = image_sources.Path.rename

    def too_late(path, target):
        rename(path, target)
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr("pathlib.Path.rename", too_late)

    assert len(read_torchvision("photographs").images) == 5


def test_images_that_are_not_there_are_named_with_their_mirrors_when_offline(photographs):
    with pytest.raises(
        DataError,
        match=r"torchvision/photographs\.bin is not on this machine, .* from http://one/photographs.bin or http://two/",
    ):
        read_torchvision("photographs")
    assert list((photographs.cache / "unpacked").iterdir()) == []


def test_missing_torchvision_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)

    with pytest.raises(DataError, match=r'the dataset cifar10 needs torchvision: pip install "setwise\[images\]"'):
        read_torchvision("cifar10")


@pytest.mark.parametrize("name", sorted(image_sources._REMOTES))
def test_every_dataset_is_one_of_torchvision_and_its_files_are_where_it_looks(name):
    remote = image_sources._REMOTES[name]
    dataset = getattr(torchvision, remote.dataset)
    expected = (
        {f"{remote.dataset}/raw/{file}" for file, _ in dataset.resources}
        if hasattr(dataset, "resources")
        else {dataset.filename}
    )

    assert {file.path for file in remote.files} == expected
    assert all(len(file.sha256) == 64 for file in remote.files)
    assert all(mirror.endswith("/") for mirror in remote.mirrors)
