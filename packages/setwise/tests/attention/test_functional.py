import math
from itertools import product

import pytest
import torch
from torch import Tensor

from setwise.attention.functional import BACKENDS, attend, attention_weights, choose_backend
from setwise.errors import ConfigError, ShapeError

EACH_BACKEND = pytest.mark.parametrize("backend", ["reference", "sdpa", "chunked"])
BATCH, HEADS, KV_HEADS, QUERIES, KEYS, KEY_DIM, VALUE_DIM = 2, 6, 3, 5, 7, 11, 13


def inputs(*, queries: int = QUERIES, keys: int = KEYS, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(HEADS, queries, KEY_DIM), (KV_HEADS, keys, KEY_DIM), (KV_HEADS, keys, VALUE_DIM)]
    drawn = (torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return tuple(x.to(dtype).requires_grad_() for x in drawn)


def random_mask(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.6


def attend_in_loops(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """The definition, one number after the other."""
    batch, heads, queries, key_dim = q.shape
    out = torch.zeros(batch, heads, queries, v.shape[-1], dtype=q.dtype)
    for b, h, t in product(range(batch), range(heads), range(queries)):
        group = h // (heads // k.shape[1])
        seen = [s for s in range(k.shape[2]) if allowed[b, h, t, s]]
        scores = [math.exp((q[b, h, t] @ k[b, group, s]).item() / math.sqrt(key_dim)) for s in seen]
        for s, score in zip(seen, scores, strict=True):
            out[b, h, t] += score / sum(scores) * v[b, group, s]
    return out


@EACH_BACKEND
def test_two_keys_give_the_logistic_of_the_difference_of_scores(backend):
    q, k, v = torch.ones(1, 1, 1, 1), torch.tensor([[[[math.log(3.0)], [0.0]]]]), torch.tensor([[[[1.0], [5.0]]]])
    torch.testing.assert_close(attend(q, k, v, backend=backend), torch.full((1, 1, 1, 1), 0.75 * 1 + 0.25 * 5))


@EACH_BACKEND
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "mask",
    [
        None,
        random_mask(BATCH, KEYS),
        random_mask(1, 1, QUERIES, KEYS),
        random_mask(BATCH, 1, QUERIES, KEYS),
        random_mask(1, HEADS, 1, KEYS),
        random_mask(BATCH, HEADS, QUERIES, 1),
        random_mask(BATCH, HEADS, QUERIES, KEYS),
    ],
    ids=lambda mask: "none" if mask is None else "x".join(map(str, mask.shape)),
)
def test_every_backend_equals_the_definition(backend, causal, mask):
    q, k, v = inputs()
    allowed = torch.ones(BATCH, HEADS, QUERIES, KEYS, dtype=torch.bool)
    if mask is not None:
        allowed &= mask if mask.dim() == 4 else mask[:, None, None]
    if causal:
        query, key = torch.arange(QUERIES)[:, None], torch.arange(KEYS)
        allowed &= key - (KEYS - QUERIES) <= query
    expected = attend_in_loops(q, k, v, allowed)
    torch.testing.assert_close(attend(q, k, v, mask=mask, causal=causal, backend=backend), expected)


@EACH_BACKEND
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, random_mask(BATCH, KEYS), random_mask(BATCH, HEADS, QUERIES, KEYS)])
def test_gradients_equal_numerical_ones(backend, causal, mask):
    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, mask=mask, causal=causal, backend=backend)

    assert torch.autograd.gradcheck(run, inputs(), fast_mode=True)


@EACH_BACKEND
@pytest.mark.parametrize("mask_of_a_set", [torch.zeros(BATCH, KEYS), torch.zeros(BATCH, HEADS, QUERIES, KEYS)])
def test_queries_that_see_nothing_give_zeros_and_gradients_of_zero(backend, mask_of_a_set):
    mask = mask_of_a_set.bool()
    mask[1] = True
    q, k, v = inputs()
    out = attend(q, k, v, mask=mask, backend=backend)
    out.square().sum().backward()
    assert (out[0] == 0).all()
    assert (out[1] != 0).all()
    for x in (q, k, v):
        assert (x.grad[0] == 0).all()
        assert x.grad[1].isfinite().all()
        assert (x.grad[1] != 0).all()


@EACH_BACKEND
@pytest.mark.parametrize("mask", [None, random_mask(BATCH, HEADS, KEYS, QUERIES)])
def test_causal_queries_before_every_key_give_zeros(backend, mask):
    q, k, v = inputs(queries=KEYS, keys=QUERIES)
    blind = KEYS - QUERIES
    out = attend(q, k, v, mask=mask, causal=True, backend=backend)
    tail = None if mask is None else mask[:, :, blind:]
    assert (out[:, :, :blind] == 0).all()
    torch.testing.assert_close(out[:, :, blind:], attend(q[:, :, blind:], k, v, mask=tail, causal=True))


@EACH_BACKEND
def test_a_single_causal_query_sees_all_keys(backend):
    q, k, v = inputs(queries=1)
    torch.testing.assert_close(attend(q, k, v, causal=True, backend=backend), attend(q, k, v))


@EACH_BACKEND
def test_what_masked_keys_hold_does_not_matter(backend):
    q, k, v = inputs()
    mask = random_mask(BATCH, KEYS)
    hidden = ~mask[:, None, :, None]
    changed = attend(q, k.masked_fill(hidden, 1e4), v.masked_fill(hidden, -1e4), mask=mask, backend=backend)
    torch.testing.assert_close(changed, attend(q, k, v, mask=mask), rtol=0, atol=1e-12)


@EACH_BACKEND
def test_scale_multiplies_the_scores(backend):
    q, k, v = inputs()
    torch.testing.assert_close(attend(q, k, v, scale=0.3, backend=backend), attend(q * 0.3, k, v, scale=1.0))


@EACH_BACKEND
@pytest.mark.parametrize("empty", ["batch", "queries", "keys"])
def test_empty_sets_give_zeros(backend, empty):
    q, k, v = inputs()
    if empty == "batch":
        q, k, v = q[:0], k[:0], v[:0]
    q, k, v = (q[:, :, :0], k, v) if empty == "queries" else (q, k, v)
    q, k, v = (q, k[:, :, :0], v[:, :, :0]) if empty == "keys" else (q, k, v)
    out = attend(q, k, v, causal=empty == "keys", backend=backend)
    assert out.shape == (*q.shape[:3], VALUE_DIM)
    assert (out == 0).all()
    out.sum().backward()


@EACH_BACKEND
@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_leaves_weights_out_and_scales_the_others(backend, probability):
    torch.manual_seed(0)
    q, k = torch.randn(3, 2, 67, 5), torch.randn(3, 2, 71, 5)
    v = torch.eye(71).expand(3, 2, 71, 71)  # the output is the weights themselves
    weights = attend(q, k, v, dropout=probability, backend=backend)
    left = weights > 0
    expected = attention_weights(q, k) / (1 - probability)
    torch.testing.assert_close(weights[left], expected[left], rtol=1e-4, atol=0)
    deviation = math.sqrt(probability * (1 - probability) / left.numel())
    assert left.double().mean().item() == pytest.approx(1 - probability, abs=5 * deviation)


@EACH_BACKEND
def test_dropout_of_the_backward_pass_is_that_of_the_forward_pass(backend):
    torch.manual_seed(0)
    q, k = (torch.randn(3, 2, 17, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    v = torch.eye(17, dtype=torch.float64).expand(3, 2, 17, 17).clone().requires_grad_()
    out = attend(q, k, v, dropout=0.4, backend=backend)
    upstream = torch.randn_like(out)
    given = torch.autograd.grad(out, (q, k, v), upstream)
    factors = (out > 0) * (out / attention_weights(q, k)).max().detach()  # 0 or 1 / (1 - p)
    expected = torch.autograd.grad((attention_weights(q, k) * factors) @ v, (q, k, v), upstream)
    torch.testing.assert_close(given, expected)


@EACH_BACKEND
def test_without_dropout_nothing_is_drawn(backend):
    before = torch.get_rng_state()
    attend(*inputs(), backend=backend).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


@EACH_BACKEND
@pytest.mark.parametrize("mask", [None, random_mask(BATCH, KEYS)])
def test_bfloat16_is_as_precise_as_its_inputs(backend, mask):
    exact, rounded = inputs(), inputs(dtype=torch.bfloat16)
    expected, out = attend(*exact, mask=mask), attend(*rounded, mask=mask, backend=backend)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), expected, rtol=0.03, atol=0.03)
    expected.square().sum().backward()
    out.square().sum().backward()
    for x, y in zip(exact, rounded, strict=True):
        assert y.grad.dtype == torch.bfloat16
        torch.testing.assert_close(y.grad.double(), x.grad, rtol=0.05, atol=0.1)


@EACH_BACKEND
def test_autocast_computes_in_bfloat16_and_gives_float32_gradients(backend):
    exact, cast = inputs(), inputs(dtype=torch.float32)
    expected = attend(*exact, causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(*cast, causal=True, backend=backend)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), expected, rtol=0.03, atol=0.03)
    expected.square().sum().backward()
    out.float().square().sum().backward()
    for x, y in zip(exact, cast, strict=True):
        assert y.grad.dtype == torch.float32
        torch.testing.assert_close(y.grad.double(), x.grad, rtol=0.05, atol=0.1)


@EACH_BACKEND
def test_autocast_leaves_float64_alone(backend):
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(*inputs(), backend=backend)
    torch.testing.assert_close(out, attend(*inputs()))


@EACH_BACKEND
def test_memory_layout_does_not_matter(backend):
    def transposed(x: Tensor) -> Tensor:
        return x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()

    plain, strided = inputs(), tuple(map(transposed, inputs()))
    outs = [attend(*x, causal=True, backend=backend) for x in (plain, strided)]
    grads = [torch.autograd.grad(out.square().sum(), x) for out, x in zip(outs, (plain, strided), strict=True)]
    torch.testing.assert_close(outs[1], outs[0])
    torch.testing.assert_close(grads[1], grads[0])


def test_weights_are_those_that_attend_uses():
    q, k, _ = inputs()
    mask = random_mask(BATCH, HEADS, QUERIES, KEYS)
    identity = torch.eye(KEYS, dtype=q.dtype).expand(BATCH, KV_HEADS, KEYS, KEYS)
    out = attend(q, k, identity, mask=mask, causal=True, scale=0.3)
    torch.testing.assert_close(attention_weights(q, k, mask=mask, causal=True, scale=0.3), out)


@pytest.mark.parametrize(
    ("device", "num_scores", "plain", "expected"),
    [
        ("cuda", 10, True, "sdpa"),
        ("mps", 10**9, False, "sdpa"),
        ("cpu", 10_000, False, "reference"),
        ("cpu", 1_000_000, True, "reference"),
        ("cpu", 1_000_000, False, "chunked"),
        ("cpu", 10_000_000, True, "chunked"),
    ],
)
def test_auto_follows_device_and_amount_of_work(device, num_scores, plain, expected):
    assert choose_backend(torch.device(device), num_scores=num_scores, plain=plain) == expected


@pytest.mark.parametrize("causal", [False, True])
def test_auto_computes_what_the_reference_does(causal):
    q, k, v = inputs(queries=139, keys=149)
    torch.testing.assert_close(attend(q, k, v, causal=causal), attend(q, k, v, causal=causal, backend="reference"))


@pytest.mark.wrong_shapes
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3, 5), (2, 3, 5, 7), (2, 3, 5, 7)), r"four axes.*queries \(2, 3, 5\)"),
        (((2, 3, 5, 7), (1, 3, 5, 7), (1, 3, 5, 7)), "batch"),
        (((2, 3, 5, 7), (2, 3, 5, 11), (2, 3, 5, 7)), "same width"),
        (((2, 3, 5, 7), (2, 3, 5, 7), (2, 3, 6, 7)), "same heads and tokens"),
        (((2, 3, 5, 7), (2, 2, 5, 7), (2, 2, 5, 7)), "must divide"),
        (((2, 3, 5, 7), (2, 0, 5, 7), (2, 0, 5, 7)), "must divide"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, message):
    with pytest.raises(ShapeError, match=message):
        attend(*(torch.zeros(shape) for shape in shapes))


def test_a_mask_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="mask has shape"):
        attend(*inputs(), mask=torch.ones(BATCH, KEYS + 1, dtype=torch.bool))


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_dropout_outside_of_its_range_is_refused(dropout):
    with pytest.raises(ConfigError, match=r"dropout=.*\[0, 1\)"):
        attend(*inputs(), dropout=dropout)


def test_an_unknown_backend_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r'backend="spda".*did you mean "sdpa"'):
        attend(*inputs(), backend="spda")
    assert "spda" not in BACKENDS
