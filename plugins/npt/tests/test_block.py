"""The attention block against the published code, and its other options against closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from setwise.attention import capture
from setwise.errors import ConfigError
from setwise_npt.block import MultiheadAttentionBlock
from setwise_npt.config import BlockOptions

_DIM, _HEADS = 6, 2


def _block(**options: Any) -> MultiheadAttentionBlock:
    torch.manual_seed(0)
    return MultiheadAttentionBlock(_DIM, BlockOptions(num_heads=_HEADS, **options))


def _attention_by_hand(block: MultiheadAttentionBlock, queries: Tensor, context: Tensor, divisor: float) -> Tensor:
    """Loop over heads, with the whole matrix of weights."""
    outputs = []
    for head in range(_HEADS):
        part = slice(head * _DIM // _HEADS, (head + 1) * _DIM // _HEADS)
        q, k, v = block.query(queries)[..., part], block.key(context)[..., part], block.value(context)[..., part]
        outputs.append((q @ k.mT / divisor).softmax(-1) @ v)
    return torch.cat(outputs, -1)


def test_output_equals_the_published_block(mab_golden):
    x, y = mab_golden.tensors["X"], mab_golden.tensors["Y"]
    torch.testing.assert_close(mab_golden.block()(x, y), mab_golden.tensors["out"], atol=1e-5, rtol=0)


def test_scores_may_be_scaled_by_the_width_of_a_head():
    block = _block(score_scale="head", norm="none", feed_forward=False, mix_heads=False).eval()
    x = torch.randn(2, 5, _DIM)
    hidden = _attention_by_hand(block, x, x, (_DIM / _HEADS) ** 0.5) + block.residual(x)
    torch.testing.assert_close(block(x), 2 * hidden)


def test_keys_and_values_may_see_the_norm_as_in_the_paper():
    block = _block(norm_keys_values=True, feed_forward=False, mix_heads=False).eval()
    x, y = torch.randn(2, 5, _DIM), torch.randn(2, 7, _DIM)
    normed_x, normed_y = block.attention_norm(x), block.attention_norm(y)
    hidden = _attention_by_hand(block, normed_x, normed_y, _DIM**0.5) + block.residual(x)
    torch.testing.assert_close(block(x, y), hidden + block.feed_forward_norm(hidden))


@pytest.mark.parametrize("score_norm", ["softmax", "constant"])
def test_masked_keys_change_nothing_and_get_no_gradient(score_norm: str):
    block = _block(score_norm=score_norm).eval()
    x, y = torch.randn(2, 5, _DIM), torch.randn(2, 7, _DIM, requires_grad=True)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, 4:] = False
    output = block(x, y, mask=mask)
    torch.testing.assert_close(output[:1], block(x[:1], y[:1, :4]))
    output.sum().backward()
    assert y.grad is not None
    assert y.grad[0, 4:].eq(0).all()
    assert y.grad[0, :4].ne(0).any()


@pytest.mark.parametrize("score_norm", ["softmax", "constant"])
def test_captured_weights_are_those_that_the_values_are_summed_with(score_norm: str):
    block = _block(score_norm=score_norm, norm="none", feed_forward=False, mix_heads=False).eval()
    x, y = torch.randn(2, 5, _DIM), torch.randn(2, 7, _DIM)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, 4:] = False
    with capture(block) as maps:
        output = block(x, y, mask=mask)
    (weights,) = maps["weights"]
    assert weights[0, :, :, 4:].eq(0).all()
    attended = weights @ block.value(y).unflatten(-1, (_HEADS, -1)).transpose(1, 2)
    torch.testing.assert_close(output, 2 * (attended.transpose(1, 2).flatten(-2) + block.residual(x)))


def test_dropping_constant_weights_drops_them_one_by_one():
    block = _block(score_norm="constant", norm="none", dropout=0.0, attention_dropout=0.5, feed_forward=False)
    x = torch.randn(2, 5, _DIM)
    q, k, v = (layer(x).unflatten(-1, (_HEADS, -1)).transpose(1, 2) for layer in (block.query, block.key, block.value))
    torch.manual_seed(3)
    output = block(x)
    torch.manual_seed(3)
    attended = F.dropout(q @ (k / (_DIM / _HEADS)).mT, 0.5) @ v
    hidden = block.mix(attended.transpose(1, 2).flatten(-2)) + block.residual(x)
    torch.testing.assert_close(output, 2 * hidden)


def test_constant_weights_of_many_queries_are_dropped_the_same_in_the_backward_pass():
    block = _block(score_norm="constant", dropout=0.0, attention_dropout=0.5)
    x = torch.randn(1, 521, _DIM, dtype=torch.float64, requires_grad=True)
    block.double()

    def output(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return block(x)

    upstream = torch.randn(1, 521, _DIM, dtype=torch.float64)
    direction = torch.randn_like(x)
    (gradient,) = torch.autograd.grad(output(x), x, upstream)
    step = 1e-6
    change = (output(x + step * direction) - output(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), (change * upstream).sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mix_heads", [False, True])
def test_dropout_is_random_in_training_and_gradients_reach_everything(mix_heads: bool):
    block = _block(dropout=0.5, attention_dropout=0.5, mix_heads=mix_heads, feed_forward_depth=2)
    x = torch.randn(2, 31, _DIM)
    assert not block(x).equal(block(x))
    block(x).square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A softmax does not see what is added to all keys.
        assert name == "key.bias" or parameter.grad.ne(0).any(), name
    assert block.eval()(x).equal(block(x))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match="num_heads=4 must divide dim=6"):
        MultiheadAttentionBlock(6, BlockOptions(num_heads=4))


def test_one_norm_cannot_serve_two_widths():
    with pytest.raises(ConfigError, match="query_dim=5 must equal context_dim=6"):
        MultiheadAttentionBlock(6, BlockOptions(num_heads=2, norm_keys_values=True), query_dim=5)
