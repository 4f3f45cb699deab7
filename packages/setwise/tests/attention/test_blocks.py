import pytest
import torch
from torch import nn
from torch.nn import functional as F

from setwise.attention.blocks import AttentionBlock, FeedForward, make_norm
from setwise.attention.masks import padding_mask
from setwise.attention.multihead import MultiHeadAttention
from setwise.attention.rotary import RotaryEmbedding
from setwise.errors import ConfigError

BATCH, TOKENS, DIM = 2, 7, 12


def block(*, causal: bool = False, rope: bool = False, **options: object) -> AttentionBlock:
    torch.manual_seed(0)
    attention = MultiHeadAttention(DIM, num_heads=3, causal=causal, rope=RotaryEmbedding(4) if rope else None)
    return AttentionBlock(attention, ffn=FeedForward(DIM, hidden_dim=17), **options)


def test_norms_centre_and_scale_as_named():
    x = torch.randn(5, 11) * 3 + 2
    rms = x.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(make_norm("rms", 11, eps=0.0)(x), x / rms)
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(make_norm("layer", 11, eps=0.0)(x), centred / centred.square().mean(-1, True).sqrt())


def test_an_unknown_norm_is_refused():
    with pytest.raises(ConfigError, match='norm="batch" is not known; use one of layer, rms'):
        make_norm("batch", 11)


@pytest.mark.parametrize(("name", "function"), [("gelu", F.gelu), ("relu", F.relu), ("silu", F.silu)])
def test_a_feed_forward_network_is_two_layers_around_its_activation(name, function):
    network, x = FeedForward(5, hidden_dim=13, activation=name), torch.randn(3, 7, 5)
    torch.testing.assert_close(network(x), network.contract(function(network.expand(x))))


def test_swiglu_gates_one_half_with_the_other():
    network, x = FeedForward(5, hidden_dim=13, activation="swiglu", bias=False), torch.randn(3, 7, 5)
    gate, value = x @ network.expand.weight[:13].T, x @ network.expand.weight[13:].T
    torch.testing.assert_close(network(x), (gate * torch.sigmoid(gate) * value) @ network.contract.weight.T)


def test_swiglu_has_as_many_parameters_as_the_others_by_default():
    plain, gated = (
        sum(p.numel() for p in FeedForward(48, activation=name, bias=False).parameters()) for name in ("gelu", "swiglu")
    )
    assert plain == gated


def test_an_unknown_activation_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r'activation="swigl" is not known.*did you mean "swiglu"'):
        FeedForward(5, activation="swigl")


def test_norms_come_first_by_default():
    layer, x = block(), torch.randn(BATCH, TOKENS, DIM)
    hidden = x + layer.attention(layer.attention_norm(x))
    torch.testing.assert_close(layer(x), hidden + layer.ffn(layer.ffn_norm(hidden)))


def test_norms_come_after_the_sums_when_asked_for():
    layer, x = block(norm_first=False), torch.randn(BATCH, TOKENS, DIM)
    hidden = layer.attention_norm(x + layer.attention(x))
    torch.testing.assert_close(layer(x), layer.ffn_norm(hidden + layer.ffn(hidden)))


def test_the_kind_of_norm_is_the_one_asked_for():
    assert isinstance(block(norm="rms").ffn_norm, nn.RMSNorm)
    assert isinstance(block(norm="layer").attention_norm, nn.LayerNorm)


def test_dropout_acts_on_both_outputs_in_training_only():
    layer, x = block(dropout=0.9), torch.randn(BATCH, TOKENS, DIM)
    changed = (layer(x) != x).float().mean()
    assert 0 < changed < 0.5  # 1 - 0.9² = 0.19 of the units are expected to be reached by either output
    layer.eval()
    torch.testing.assert_close(layer(x), block()(x))


def test_mask_and_positions_reach_the_attention():
    layer, x = block(rope=True), torch.randn(BATCH, TOKENS, DIM)
    mask = padding_mask(torch.tensor([5, 5]), TOKENS)
    positions = torch.arange(TOKENS) * 3
    short = layer(x[:, :5], positions=positions[:5])
    torch.testing.assert_close(layer(x, mask=mask, positions=positions)[:, :5], short)
    assert not torch.allclose(layer(x[:, :5]), short)


@pytest.mark.parametrize("norm_first", [True, False])
def test_steps_give_the_rows_of_forward(norm_first):
    layer, x = block(causal=True, rope=True, norm_first=norm_first), torch.randn(BATCH, TOKENS, DIM)
    cache = layer.init_cache(BATCH, TOKENS)
    out = torch.cat([layer.step(part, cache) for part in x.split([3, 1, 1, 2], dim=1)], dim=1)
    torch.testing.assert_close(out, layer(x))


def test_a_block_has_the_claims_and_width_of_its_attention():
    layer = block(causal=True, rope=True)
    assert (layer.dim, layer.invariances) == (DIM, layer.attention.invariances)
    assert "causal" in layer.invariances
