"""What the model gets to see, and where the losses are taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from setwise_npt.columns import Columns
from setwise_npt.masking import Masks, choose_cells, corrupt

_COLUMNS = Columns(sizes=(0, 5, 0, 3), targets=(3,))
_TRAIN, _VAL, _TEST, _NEW, _PADDING = 0, 1, 2, 3, -1


def _choose(split: Tensor, *, seed: int = 0, **arguments: Any) -> Masks:
    """Choose cells of the table above in sets whose rows are of the given splits; nothing is missing."""
    shape = (*split.shape, len(_COLUMNS))
    chosen = {
        "missing": torch.zeros(shape, dtype=torch.bool),
        "present": split != _PADDING,
        "is_target": _COLUMNS.tensors(split.device).is_target,
        "noise": torch.rand(shape, generator=torch.Generator().manual_seed(seed)),
        "mode": "train",
        "label_probability": 1.0,
        "feature_probability": 0.0,
        "mask_share": 0.9,
    }
    return choose_cells(split=split, **(chosen | arguments))


def _rows(*counts: int) -> Tensor:
    """A set of so many train, val, test, new and padding rows."""
    codes = (_TRAIN, _VAL, _TEST, _NEW, _PADDING)
    return torch.cat([torch.full((count,), code) for count, code in zip(counts, codes, strict=False)])[None]


@pytest.mark.parametrize(("mode", "wanted"), [("train", _TRAIN), ("val", _VAL), ("test", _TEST), ("predict", _NEW)])
def test_probability_one_hides_all_labels_and_wants_those_of_the_split(mode: str, wanted: int):
    split = _rows(5, 3, 2, 4)
    masks = _choose(split, mode=mode)
    assert masks.hidden[..., 3].all()
    assert not masks.hidden[..., :3].any()
    assert masks.label_loss[..., 3].equal(split == wanted)
    assert not masks.label_loss[..., :3].any()
    assert not masks.replaced.any()


@pytest.mark.parametrize(
    ("mode", "shown"), [("train", {_TRAIN}), ("val", {_TRAIN}), ("test", {_TRAIN, _VAL}), ("predict", {_TRAIN, _VAL})]
)
def test_probability_zero_shows_the_labels_a_mode_may_show_and_no_others(mode: str, shown: set[int]):
    split = _rows(5, 3, 2, 4)
    masks = _choose(split, mode=mode, label_probability=0.0)
    for code in (_TRAIN, _VAL, _TEST, _NEW):
        assert masks.hidden[..., 3][split == code].all() == (code not in shown)
        assert masks.hidden[..., 3][split == code].any() == (code not in shown)
    wanted = {"train": None, "val": _VAL, "test": _TEST, "predict": _NEW}[mode]
    assert masks.label_loss[..., 3].equal(split == wanted if wanted is not None else torch.zeros_like(split) == 1)


def test_training_takes_the_loss_on_the_labels_it_chose_and_hides_or_replaces_exactly_those():
    split = _rows(1009, 101, 101)
    masks = _choose(split, label_probability=0.3)
    is_train = split == _TRAIN
    touched = masks.hidden[..., 3] | masks.replaced[..., 3]
    assert touched[is_train].equal(masks.label_loss[..., 3][is_train])
    assert masks.hidden[..., 3][~is_train].all()
    assert not masks.label_loss[..., 3][~is_train].any()
    share = masks.label_loss[..., 3][is_train].float().mean()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 1009) ** 0.5


def test_evaluation_wants_all_labels_of_its_split_whatever_it_hides_of_others():
    split = _rows(1009, 101, 101)
    masks = _choose(split, mode="test", label_probability=0.3)
    assert masks.label_loss[..., 3].equal(split == _TEST)
    assert masks.hidden[..., 3][split == _TEST].all()
    touched = (masks.hidden | masks.replaced)[..., 3][split < _TEST].float().mean()
    assert abs(touched - 0.3) < 4 * (0.3 * 0.7 / 1110) ** 0.5


def test_features_of_every_split_are_chosen_with_the_probability():
    split = _rows(307, 307, 307)
    masks = _choose(split, feature_probability=0.15)
    assert not masks.feature_loss[..., 3].any()
    for code in (_TRAIN, _VAL, _TEST):
        share = masks.feature_loss[..., :3][split == code].float().mean()
        assert abs(share - 0.15) < 4 * (0.15 * 0.85 / (3 * 307)) ** 0.5
    assert (masks.hidden | masks.replaced)[..., :3].equal(masks.feature_loss[..., :3])


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 37, 101])
@pytest.mark.parametrize("mask_share", [0.0, 0.5, 0.9, 1.0])
def test_exactly_the_share_of_the_chosen_cells_is_replaced_in_every_set(rows: int, mask_share: float):
    masks = _choose(torch.zeros(3, rows, dtype=torch.int64), feature_probability=0.4, mask_share=mask_share)
    for one_set in range(3):
        chosen = int(masks.feature_loss[one_set].sum())
        assert int(masks.replaced[one_set].sum()) == round((1 - mask_share) * chosen)
        assert not (masks.replaced & (masks.hidden | ~masks.feature_loss)).any()


def test_every_chosen_cell_is_replaced_equally_often():
    counts = torch.zeros(7, 3)
    for seed in range(2003):
        masks = _choose(_rows(7), seed=seed, feature_probability=0.9, mask_share=0.5)
        counts += masks.replaced[0, :, :3]
    share = counts / 2003
    assert (share - share.mean()).abs().max() < 4.5 * (0.25 / 2003) ** 0.5


def test_missing_cells_are_hidden_and_have_no_loss():
    missing = torch.rand(1, 101, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    masks = _choose(_rows(101), missing=missing, label_probability=0.5, feature_probability=0.9)
    assert masks.hidden[missing].all()
    assert not (masks.replaced | masks.label_loss | masks.feature_loss)[missing].any()


def test_padding_has_no_loss():
    masks = _choose(_rows(5, 3, 2, 0, 7), label_probability=0.5, feature_probability=0.9)
    padding = slice(10, None)
    assert masks.hidden[:, padding].all()
    assert not (masks.replaced | masks.label_loss | masks.feature_loss)[:, padding].any()


def test_labels_of_val_and_test_rows_are_never_visible_in_training():
    for seed in range(101):
        masks = _choose(_rows(11, 7, 5), seed=seed, label_probability=0.01, feature_probability=0.9)
        assert masks.hidden[:, 11:, 3].all()


def _corrupt(rows: int, **arguments: Any) -> tuple[Tensor, Tensor, Masks, Tensor, Tensor]:
    shape = (1, rows, len(_COLUMNS))
    is_numeric = torch.tensor(_COLUMNS.sizes) == 0
    values = torch.full(shape, 100.0) * is_numeric
    codes = torch.ones(shape, dtype=torch.int64) * ~is_numeric
    masks = _choose(_rows(rows), **arguments)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(5))
    return *corrupt(values, codes, masks, noise, _COLUMNS), masks, values, codes


def test_hidden_cells_are_zero_and_others_are_as_they_were():
    seen_values, seen_codes, masks, values, codes = _corrupt(101, feature_probability=0.5, label_probability=0.5)
    assert seen_values[masks.hidden].eq(0).all()
    assert seen_codes[masks.hidden].eq(0).all()
    untouched = ~(masks.hidden | masks.replaced)
    assert seen_values[untouched].equal(values[untouched])
    assert seen_codes[untouched].equal(codes[untouched])


def test_random_numbers_are_standard_normal_and_random_categories_uniform():
    seen_values, seen_codes, masks, _, _ = _corrupt(
        10007, feature_probability=1.0, label_probability=0.999, mask_share=0.0
    )
    assert masks.replaced[..., :3].all()
    numbers = seen_values[..., [0, 2]].flatten()
    normal = torch.distributions.Normal(0.0, 1.0)
    ranks = torch.arange(1, len(numbers) + 1) / len(numbers)
    assert (normal.cdf(numbers.sort().values) - ranks).abs().max() < 1.95 / len(numbers) ** 0.5  # Kolmogorov, 0.1 %
    for column, size in ((1, 5), (3, 3)):
        counts = torch.bincount(seen_codes[..., column][masks.replaced[..., column]], minlength=size).float()
        assert len(counts) == size
        assert ((counts / counts.sum() - 1 / size).abs() < 4 * (1 / size / counts.sum()) ** 0.5).all()
    assert seen_codes[..., [0, 2]].eq(0).all()
    assert seen_values[..., [1, 3]].eq(0).all()


def test_the_extremes_of_noise_give_numbers_and_categories():
    shape = (1, 2, len(_COLUMNS))
    noise = torch.tensor([0.0, 1 - 2.0**-24])[None, :, None].expand(shape)
    everything = torch.ones(shape, dtype=torch.bool)
    masks = Masks(~everything, everything, everything, everything)
    values, codes = corrupt(torch.zeros(shape), torch.zeros(shape, dtype=torch.int64), masks, noise, _COLUMNS)
    assert values.isfinite().all()
    assert codes[0].tolist() == [[0, 0, 0, 0], [0, 4, 0, 2]]
