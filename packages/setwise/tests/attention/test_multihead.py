import pytest
import torch
from torch import nn

from setwise.attention.capture import capture
from setwise.attention.masks import padding_mask
from setwise.attention.multihead import MultiHeadAttention
from setwise.attention.rotary import RotaryEmbedding
from setwise.errors import ConfigError, SetwiseError, ShapeError

BATCH, TOKENS, DIM, HEAD_DIM = 2, 11, 30, 4


def make(**options: object) -> MultiHeadAttention:
    torch.manual_seed(0)
    rope = RotaryEmbedding(HEAD_DIM) if options.pop("rope", False) else None
    defaults = {"num_heads": 6, "num_kv_heads": 3, "head_dim": HEAD_DIM, "rope": rope}
    return MultiHeadAttention(DIM, **{**defaults, **options}).double()


def tokens(num: int = TOKENS) -> torch.Tensor:
    return torch.randn(BATCH, num, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_it_is_what_torchs_own_layer_computes():
    layer = MultiHeadAttention(DIM, num_heads=5)
    other = nn.MultiheadAttention(DIM, 5, batch_first=True)
    other.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.out.weight,
            "out_proj.bias": layer.out.bias,
        }
    )
    x, mask = torch.randn(BATCH, TOKENS, DIM), padding_mask(torch.tensor([7, 11]), TOKENS)
    expected, weights = other(x, x, x, key_padding_mask=~mask, average_attn_weights=False)
    with capture(layer) as maps:
        given = layer(x, mask=mask)
    torch.testing.assert_close(given[mask], expected[mask])
    torch.testing.assert_close(maps["weights"][0][0, :, :7], weights[0, :, :7])


@pytest.mark.parametrize(
    ("options", "claims"),
    [
        ({}, {"permutation", "padding"}),
        ({"causal": True}, {"causal", "padding"}),
        ({"rope": True}, {"translation", "padding"}),
        ({"causal": True, "rope": True}, {"causal", "translation", "padding"}),
    ],
)
def test_claims_follow_the_options(options, claims):
    assert make(**options).invariances == claims


def test_permuting_tokens_permutes_the_output():
    layer, x, order = make(), tokens(), torch.randperm(TOKENS)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


@pytest.mark.parametrize("rope", [False, True])
def test_later_tokens_do_not_change_earlier_ones_when_causal(rope):
    layer, x = make(causal=True, rope=rope), tokens()
    torch.testing.assert_close(layer(x)[:, :7], layer(x[:, :7]))


@pytest.mark.parametrize("causal", [False, True])
def test_padding_does_not_change_the_other_tokens(causal):
    layer, x = make(causal=causal), tokens()
    mask = padding_mask(torch.tensor([7, 7]), TOKENS)
    torch.testing.assert_close(layer(x, mask=mask)[:, :7], layer(x[:, :7]))


def test_tokens_that_may_attend_to_nothing_get_the_bias_of_the_output():
    layer = make()
    out = layer(tokens(), mask=torch.zeros(BATCH, TOKENS, dtype=torch.bool))
    torch.testing.assert_close(out, layer.out.bias.expand_as(out))


def test_shifting_all_positions_changes_nothing():
    layer, x = make(rope=True), tokens()
    positions = torch.rand(BATCH, TOKENS) * 10
    torch.testing.assert_close(layer(x, positions=positions), layer(x, positions=positions + 50), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(layer(x, positions=positions), layer(x, positions=2 * positions))


def test_positions_count_from_zero_when_not_given():
    layer, x = make(rope=True), tokens()
    torch.testing.assert_close(layer(x), layer(x, positions=torch.arange(TOKENS)))


@pytest.mark.parametrize("rope", [False, True])
@pytest.mark.parametrize("sizes", [[1] * TOKENS, [7, 1, 3], [TOKENS]])
def test_steps_give_the_rows_of_forward(rope, sizes):
    layer, x = make(causal=True, rope=rope), tokens()
    cache = layer.init_cache(BATCH, max_tokens=TOKENS)
    out = torch.cat([layer.step(part, cache) for part in x.split(sizes, dim=1)], dim=1)
    torch.testing.assert_close(out, layer(x))
    assert len(cache) == TOKENS


def test_steps_follow_autocast():
    layer, x = make(causal=True).float(), tokens().float()
    cache = layer.init_cache(BATCH, max_tokens=TOKENS)
    with torch.autocast("cpu", torch.bfloat16):
        out = torch.cat([layer.step(part, cache) for part in x.split(1, dim=1)], dim=1)
        torch.testing.assert_close(out, layer(x), rtol=0.05, atol=0.02)


def test_a_layer_that_is_not_causal_has_no_steps():
    with pytest.raises(SetwiseError, match="MultiHeadAttention is not causal"):
        make().init_cache(BATCH, TOKENS)
    with pytest.raises(SetwiseError, match="MultiHeadAttention is not causal"):
        make().step(tokens(1), make(causal=True).init_cache(BATCH, TOKENS))


def test_dropout_acts_in_training_only():
    layer, x = make(dropout=0.5), tokens()
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    torch.testing.assert_close(layer(x), make()(x))


@pytest.mark.parametrize("backend", ["reference", "sdpa", "chunked"])
def test_backends_agree(backend):
    x, mask = tokens(), padding_mask(torch.tensor([7, 11]), TOKENS)
    torch.testing.assert_close(make(backend=backend, causal=True)(x, mask=mask), make(causal=True)(x, mask=mask))


def test_weights_are_recorded_without_dropout():
    layer = make(dropout=0.5, causal=True)
    with capture(nn.ModuleDict({"layer": layer})) as maps:
        layer(tokens())
    (weights,) = maps["layer.weights"]
    assert weights.shape == (BATCH, 6, TOKENS, TOKENS)
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, 6, TOKENS, dtype=weights.dtype))
    assert (weights.triu(1) == 0).all()


def test_no_biases_when_not_asked_for():
    assert all("bias" not in name for name, _ in make(bias=False).named_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 7}, "num_heads=7 must divide dim=64; try 4 or 8"),
        ({"num_heads": 0}, "num_heads=0 must be positive"),
        ({"num_heads": 8, "num_kv_heads": 3}, "num_kv_heads=3 must divide num_heads=8; try 2 or 4"),
        ({"num_heads": 8, "num_kv_heads": 16}, "num_kv_heads=16 must divide num_heads=8; try 8"),
        ({"num_heads": 8, "head_dim": 0}, "head_dim=0 must be positive"),
        ({"num_heads": -2, "head_dim": 8}, "num_heads=-2 must be positive"),
        ({"num_heads": 8, "rope": RotaryEmbedding(4)}, "rope is for head_dim=4.* have 8"),
        ({"num_heads": 8, "dropout": 1.0}, "dropout=1.0"),
        ({"num_heads": 8, "backend": "chunk"}, 'did you mean "chunked"'),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        MultiHeadAttention(64, **options)


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("shape", [(TOKENS, DIM), (BATCH, TOKENS, DIM + 1)])
def test_tokens_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeError, match=r"expected \(batch, tokens, dim\) with dim=30"):
        make()(torch.zeros(shape, dtype=torch.float64))
