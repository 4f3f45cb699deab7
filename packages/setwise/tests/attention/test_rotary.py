import math

import pytest
import torch

from setwise.attention.rotary import RotaryEmbedding
from setwise.errors import ConfigError, ShapeError


def test_neighbouring_channels_turn_by_position_times_frequency():
    x = torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(1, 1, 2, 4)
    rotated = RotaryEmbedding(4, base=100.0)(x, torch.tensor([0, 3]))
    slow = 3 / math.sqrt(100)
    expected = torch.tensor([math.cos(3), math.sin(3), -math.sin(slow), math.cos(slow)])
    torch.testing.assert_close(rotated[0, 0], torch.stack((x[0, 0, 0], expected)))


def test_scores_depend_on_differences_of_positions_only():
    rotary = RotaryEmbedding(6)
    q, k = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 5, 6)
    positions = torch.rand(2, 5) * 20
    near, far = (rotary(q, p) @ rotary(k, p).mT for p in (positions, positions + 37.5))
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (2, 5), (2, 5, 1)])
def test_positions_come_with_or_without_batch_and_axis(shape):
    rotary, x = RotaryEmbedding(4), torch.randn(2, 3, 5, 4)
    positions = torch.arange(5).expand(shape[:-1] if len(shape) == 3 else shape)
    positions = positions.unsqueeze(-1) if len(shape) == 3 else positions
    torch.testing.assert_close(rotary(x, positions), rotary(x, torch.arange(5)))


def test_only_the_first_channels_turn_when_dim_is_given():
    x = torch.randn(2, 3, 5, 7)
    rotated = RotaryEmbedding(7, dim=4)(x, torch.arange(1, 6))
    torch.testing.assert_close(rotated[..., :4], RotaryEmbedding(4)(x[..., :4], torch.arange(1, 6)))
    assert torch.equal(rotated[..., 4:], x[..., 4:])
    assert not torch.isclose(rotated[..., :4], x[..., :4]).any(-1).all()


def test_angles_stay_precise_in_a_bfloat16_model():
    rotary, x = RotaryEmbedding(8).bfloat16(), torch.randn(1, 1, 3, 8)
    positions = torch.tensor([10_001, 20_003, 30_011])  # bfloat16 knows multiples of 64 or more here
    rotated = rotary(x.bfloat16(), positions)
    assert rotated.dtype == torch.bfloat16
    torch.testing.assert_close(rotated.float(), rotary(x, positions), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_dim": 5}, "head_dim=5 .*even"),
        ({"head_dim": 6, "dim": 3}, "dim=3 .*even"),
        ({"head_dim": 6, "dim": 8}, "dim=8 .*from 2 to head_dim=6"),
        ({"head_dim": 6, "dim": 0}, "dim=0"),
        ({"head_dim": 6, "base": 0.0}, "base=0.0 must be positive"),
        ({"head_dim": 6, "base": math.nan}, "base=nan must be positive"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RotaryEmbedding(**options)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 5, 2)])
def test_positions_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeError, match=r"expected \(tokens,\) = \(5,\), \(batch, tokens\) = \(2, 5\)"):
        RotaryEmbedding(4)(torch.randn(2, 3, 5, 4), torch.zeros(shape))
