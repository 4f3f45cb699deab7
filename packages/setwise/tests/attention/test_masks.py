import pytest
import torch

from setwise.attention.masks import as_attention_mask, causal_mask, combine_masks, padding_mask
from setwise.errors import ShapeError

SIZES = {"batch": 2, "heads": 3, "queries": 5, "keys": 7}


def test_padding_mask_allows_the_first_tokens():
    expected = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    assert torch.equal(padding_mask(torch.tensor([0, 2, 3]), 3), expected)


def test_causal_mask_gives_the_last_query_the_last_key():
    assert torch.equal(causal_mask(3)[0, 0], torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool())
    assert torch.equal(causal_mask(2, 3)[0, 0], torch.tensor([[1, 1, 0], [1, 1, 1]]).bool())
    assert torch.equal(causal_mask(3, 2)[0, 0], torch.tensor([[0, 0], [1, 0], [1, 1]]).bool())


def test_combined_masks_allow_what_all_allow():
    combined = combine_masks(padding_mask(torch.tensor([2, 3]), 3), None, causal_mask(3))
    expected = torch.tensor([[[1, 0, 0], [1, 1, 0], [1, 1, 0]], [[1, 0, 0], [1, 1, 0], [1, 1, 1]]]).bool()
    assert torch.equal(combined, expected[:, None])


def test_no_mask_combines_to_none():
    assert combine_masks() is None
    assert combine_masks(None, None) is None


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 7), (2, 1, 1, 7)),
        ((1, 7), (1, 1, 1, 7)),
        ((2, 3, 5, 7), (2, 3, 5, 7)),
        ((1, 1, 5, 1), (1, 1, 5, 1)),
    ],
)
def test_masks_get_four_axes(shape, expected):
    assert as_attention_mask(torch.ones(shape, dtype=torch.bool), **SIZES).shape == expected


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((7,), r"\(7,\); expected \(batch, keys\) or"),
        ((2, 5, 7), r"mask\[:, None\]"),
        ((5, 7), r"\(5, 7\).*\(2, 3, 5, 7\).*mask\[None, None\]"),
        ((3, 7), r"\(3, 7\); expected \(batch, keys\) = \(2, 7\)"),
        ((2, 3, 7, 5), r"\(2, 3, 7, 5\)"),
    ],
)
def test_a_mask_of_another_shape_is_refused_with_what_to_do(shape, message):
    with pytest.raises(ShapeError, match=message):
        as_attention_mask(torch.ones(shape, dtype=torch.bool), **SIZES)


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
def test_a_mask_of_numbers_is_refused_with_what_to_do(dtype):
    with pytest.raises(ShapeError, match=rf"dtype {dtype}; expected torch.bool.*mask\.bool\(\)"):
        as_attention_mask(torch.ones(2, 7, dtype=dtype), **SIZES)
