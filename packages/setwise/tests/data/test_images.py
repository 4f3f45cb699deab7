import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from setwise.data.image_sources import SourceImages
from setwise.data.images import ImageData, build_digits
from setwise.data.sampling import item_generator
from setwise.data.spec import Categorical, Image
from setwise.errors import DataError
from setwise.options import DigitsOptions, ImageOptions

IMAGES, TEST, CLASSES = 101, 17, 3
GENERATOR = np.random.default_rng(0)
SOURCE = SourceImages(
    images=torch.from_numpy(GENERATOR.integers(0, 256, (IMAGES, 2, 7, 5), dtype=np.uint8)),
    labels=torch.from_numpy(GENERATOR.integers(0, CLASSES, IMAGES)),
    classes=("cat", "dog", "eel"),
    max_value=255,
    num_test=TEST,
)


def read() -> SourceImages:
    return SOURCE


def images(*, seed=0, test_fraction=0.0, source=SOURCE, **options) -> ImageData:
    data = ImageData(ImageOptions(**options), seed=seed, read=lambda: source, test_fraction=test_fraction)
    data.prepare()
    return data


def all_of(data, split, epoch=0):
    return data.batch(split, epoch, range(data.num_items(split)))


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_spec_is_an_image_and_a_label():
    spec = images().spec

    assert spec.inputs == (Image("image", channels=2, height=7, width=5),)
    assert spec.targets == (Categorical("label", ("cat", "dog", "eel")),)


def test_items_are_pixels_from_zero_to_one_and_labels():
    item = images(normalize=False).item("test", 0, 3)

    assert torch.equal(item["image"], SOURCE.images[-TEST + 3] / 255)
    assert item["image"].dtype == torch.float32
    assert item["label"] == SOURCE.labels[-TEST + 3]
    assert item["label"].dtype == torch.int64
    assert item["label"].shape == ()


def test_normalised_train_images_have_mean_zero_and_std_one_per_channel():
    pixels = all_of(images(), "train")["image"]

    assert pixels.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert pixels.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_constant_channel_is_not_divided_by_zero():
    pixels = SOURCE.images.clone()
    pixels[:, 1] = 51
    data = images(source=SourceImages(pixels, SOURCE.labels, SOURCE.classes, 255, TEST))

    assert all_of(data, "train")["image"][:, 1].abs().max() < 1e-6


def test_test_images_are_the_datasets_own():
    data = images(normalize=False, val_size=11)

    assert torch.equal(all_of(data, "test")["label"], SOURCE.labels[-TEST:])
    assert [data.num_items(split) for split in data.splits] == [IMAGES - TEST - 11, 11, TEST]


def test_splits_partition_the_images_with_the_class_proportions():
    data = images(
        test_fraction=0.3, val_fraction=0.25, source=SourceImages(SOURCE.images, SOURCE.labels, SOURCE.classes, 255, 0)
    )

    labels = {split: all_of(data, split)["label"] for split in data.splits}

    counts = torch.stack([torch.bincount(each, minlength=CLASSES) for each in labels.values()])
    assert counts.sum(0).tolist() == torch.bincount(SOURCE.labels).tolist()
    assert counts.sum(1).tolist() == [53, 18, 30]
    expected = counts.sum(0) * counts.sum(1)[:, None] / IMAGES
    assert (counts - expected).abs().max() < 2


def test_splits_depend_on_the_split_seed_alone():
    def val(**keywords):
        return all_of(images(**keywords), "val")["image"]

    assert torch.equal(val(seed=0), val(seed=1))
    assert not torch.equal(val(split_seed=0), val(split_seed=1))


def test_without_validation_images_there_is_no_such_split():
    assert images(val_fraction=0).splits == ("train", "test")


def test_too_many_validation_images_are_refused():
    with pytest.raises(DataError, match="84 validation images of the 84 that do not test leave none to train on"):
        images(val_size=84)


@pytest.mark.parametrize("augment", [(), ("crop",), ("flip",), ("crop", "flip")])
def test_batch_is_the_collated_items(augment):
    data = images(augment=augment)
    indices = [5, 2, 11]

    assert same(data.batch("train", 3, indices), data.collate([data.item("train", 3, index) for index in indices]))


def test_augmentation_is_a_function_of_seed_epoch_and_index():
    def train(seed=0, epoch=0):
        return all_of(images(seed=seed, augment=("crop", "flip")), "train", epoch)["image"]

    assert torch.equal(train(), train())
    assert not torch.equal(train(), train(seed=1))
    assert not torch.equal(train(), train(epoch=1))


def test_augmentation_neither_reads_nor_moves_global_generators():
    data = images(augment=("crop", "flip"))
    torch.manual_seed(0)
    before, first = torch.get_rng_state(), all_of(data, "train")
    torch.manual_seed(1)

    assert same(all_of(data, "train"), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_train_images_are_augmented():
    plain, augmented = images(), images(augment=("crop", "flip"))

    for split in ("val", "test"):
        assert same(all_of(plain, split), all_of(augmented, split))
    assert not same(all_of(plain, "train"), all_of(augmented, "train"))


def test_crop_moves_the_image_and_fills_with_black():
    plain = all_of(images(normalize=False), "train")["image"]
    data = images(normalize=False, augment=("crop",), crop_padding=2)
    seen = set()
    for index in range(data.num_items("train")):
        top, left = item_generator(0, "train", 0, index).integers(-2, 2, size=2, endpoint=True).tolist()
        padded = torch.nn.functional.pad(plain[index], (2, 2, 2, 2))
        assert torch.equal(data.item("train", 0, index)["image"], padded[:, 2 + top : 9 + top, 2 + left : 7 + left])
        seen.add((top, left))
    assert len(seen) > 20  # of 25


def test_flip_mirrors_about_half_of_the_images():
    plain = all_of(images(), "train")["image"]
    flipped = all_of(images(augment=("flip",)), "train")["image"]

    mirrored = [torch.equal(one, other.flip(-1)) for one, other in zip(flipped, plain, strict=True)]
    unchanged = [torch.equal(one, other) for one, other in zip(flipped, plain, strict=True)]
    assert all(one != other for one, other in zip(mirrored, unchanged, strict=True))
    assert 25 < sum(mirrored) < 51  # 38 expected of 76, standard deviation 4.4


def test_augmentation_without_torchvision_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)

    with pytest.raises(DataError, match=r'data.augment needs torchvision: pip install "setwise\[images\]"'):
        images(augment=("flip",)).item("train", 0, 0)


def test_fingerprint_is_of_the_images_and_their_splits():
    other = SourceImages(SOURCE.images.flip(0), SOURCE.labels, SOURCE.classes, 255, TEST)
    found = [images().fingerprint(), images(split_seed=1).fingerprint(), images(source=other).fingerprint()]

    assert len(set(found)) == 3
    assert images(seed=1, augment=("flip",)).fingerprint() == found[0]
    assert len(found[0]) == 64


def test_items_out_of_range_are_refused():
    with pytest.raises(DataError, match='item 17 of split "test" does not exist'):
        images().batch("test", 0, [3, TEST])


def test_unprepared_images_say_so():
    with pytest.raises(DataError, match=r"call prepare\(\) first"):
        ImageData(ImageOptions(), seed=0, read=read).num_items("train")


def test_images_are_read_once():
    calls = []
    data = ImageData(ImageOptions(), seed=0, read=lambda: calls.append(1) or SOURCE)
    data.prepare()
    data.prepare()

    assert len(calls) == 1


def test_digits_come_with_scikit_learn():
    data = build_digits(DigitsOptions(normalize=False), seed=0)
    data.prepare()

    pixels = all_of(data, "train")["image"]

    assert data.spec.inputs == (Image("image", 1, 8, 8),)
    assert data.spec.targets == (Categorical("label", tuple("0123456789")),)
    assert [data.num_items(split) for split in data.splits] == [1294, 144, 359]
    assert (pixels.min(), pixels.max()) == (0, 1)


def test_unknown_augmentation_is_refused():
    with pytest.raises(ValidationError, match="Input should be 'crop' or 'flip'"):
        ImageOptions(augment=("rotate",))
