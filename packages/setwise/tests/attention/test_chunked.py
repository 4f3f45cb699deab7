import math

import pytest
import torch
from torch import Tensor

from setwise.attention import chunked
from setwise.attention.functional import attend
from setwise.errors import ConfigError

# Blocks of a few queries, of a few sets, and of everything.
EACH_BLOCK_SIZE = pytest.mark.parametrize("block", [1 << 8, 1 << 11, 1 << 19])


@pytest.fixture(params=[True, False], ids=["stored", "recomputed"])
def stored(request, monkeypatch):
    """Weights are kept for the backward pass, or computed again."""
    monkeypatch.setattr(chunked, "_STORED_SCORES", 1 << 23 if request.param else 0)
    return request.param


def inputs(dtype: torch.dtype = torch.float64, *, key_dim: int = 5) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 6, 37, key_dim), (3, 2, 41, key_dim), (3, 2, 41, 13)]
    drawn = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return tuple(x.to(dtype).requires_grad_() for x in drawn)


def outputs(backend: str, x: tuple[Tensor, ...], **options: object) -> tuple[Tensor, ...]:
    out = attend(*x, backend=backend, **options)
    return out.detach(), *torch.autograd.grad(out.float().square().sum(), x)


@EACH_BLOCK_SIZE
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask_shape", [None, (3, 41), (3, 1, 37, 41), (1, 6, 1, 41), (3, 6, 37, 41)])
def test_blocks_give_what_the_reference_gives(monkeypatch, stored, block, causal, mask_shape):
    monkeypatch.setattr(chunked, "_CPU_BLOCK", block)
    options = {"causal": causal, "mask": None if mask_shape is None else torch.rand(mask_shape) < 0.7}
    torch.testing.assert_close(
        outputs("chunked", inputs(), **options), outputs("reference", inputs(), **options), rtol=1e-6, atol=1e-6
    )


@EACH_BLOCK_SIZE
@pytest.mark.parametrize("key_dim", [3, 19])
def test_bfloat16_is_summed_over_blocks_in_float32(monkeypatch, stored, block, key_dim):
    monkeypatch.setattr(chunked, "_CPU_BLOCK", block)
    expected = outputs("reference", inputs(key_dim=key_dim))
    given = outputs("chunked", inputs(torch.bfloat16, key_dim=key_dim))
    for x, y in zip(given, expected, strict=True):
        assert x.dtype == torch.bfloat16
        assert (x.double() - y).norm() < 0.02 * y.norm()


@EACH_BLOCK_SIZE
def test_dropout_is_drawn_again_as_it_was(monkeypatch, block):
    monkeypatch.setattr(chunked, "_CPU_BLOCK", block)
    results = []
    for most in (0, 1 << 23):
        monkeypatch.setattr(chunked, "_STORED_SCORES", most)
        torch.manual_seed(3)
        results.append(outputs("chunked", inputs(), dropout=0.3, causal=True))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_gradients_with_dropout_equal_numerical_ones(monkeypatch, stored):
    monkeypatch.setattr(chunked, "_CPU_BLOCK", 1 << 6)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(5)  # the same weights are left out at every point
        return attend(q, k, v, dropout=0.4, backend="chunked")

    assert torch.autograd.gradcheck(run, [x[:, :, :7] for x in inputs()], fast_mode=True)


def test_the_backward_pass_draws_nothing_from_the_global_generator(stored):
    out = attend(*inputs(), dropout=0.3, backend="chunked")
    before = torch.get_rng_state()
    out.sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_calls_draw_different_weights():
    q, k, v = inputs()
    first, second = (attend(q, k, v, dropout=0.3, backend="chunked") for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_weights_are_dropped_independently_with_the_probability_asked_for(probability):
    generator = torch.Generator().manual_seed(0)
    drops = chunked._Dropout(probability, generator)
    taken = drops.draw(torch.empty(257, 1021)).double()
    assert set(taken.unique().tolist()) == {0.0, 1.0}
    deviation = math.sqrt(probability * (1 - probability) / taken.numel())
    assert taken.mean().item() == pytest.approx(probability, abs=5 * deviation + 2**-16)
    assert drops.scale == pytest.approx(1 / (1 - probability), rel=1e-3)
    standard = (taken - taken.mean()) / taken.std()
    for neighbours in (standard[:, 1:] * standard[:, :-1], standard[1:] * standard[:-1]):
        assert abs(neighbours.mean().item()) < 5 / math.sqrt(neighbours.numel())


def test_memory_kept_for_the_backward_pass_is_linear_in_the_tokens(monkeypatch):
    monkeypatch.setattr(chunked, "_STORED_SCORES", 1 << 12)

    def kept(tokens: int) -> int:
        q, k, v = (torch.randn(1, 1, tokens, 3, requires_grad=True) for _ in range(3))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            attend(q, k, v, dropout=0.1, backend="chunked")
        return sum(sizes)

    assert kept(2 * 397) == 2 * kept(397)


def test_nothing_is_kept_where_no_gradient_is_asked_for(monkeypatch):
    stores = []
    settings = chunked._Settings
    monkeypatch.setattr(chunked, "_Settings", lambda **each: stores.append(each["store"]) or settings(**each))
    attend(*inputs(), backend="chunked")
    with torch.no_grad():
        attend(*inputs(), backend="chunked")
    attend(*(x.detach() for x in inputs()), backend="chunked")
    assert stores == [True, False, False]


def test_heads_are_joined_without_a_copy():
    out = attend(*inputs(), backend="chunked")
    joined = out.transpose(1, 2).flatten(2)
    assert joined.data_ptr() == out.data_ptr()


def test_second_derivatives_are_refused_with_what_to_use():
    q, k, v = inputs()
    out = attend(q, k, v, backend="chunked")
    with pytest.raises(ConfigError, match='use backend="reference"'):
        torch.autograd.grad(out.sum(), q, create_graph=True)


@pytest.mark.parametrize("causal", [False, True])
def test_blocks_cover_every_score_once(causal):
    seen = torch.zeros(3, 2, 5, 29, 31, dtype=torch.long)
    for block in chunked._blocks(torch.Size([3, 2, 5, 29, 7]), 31, causal, torch.device("cpu")):
        seen[block.batch, block.kv_heads, :, block.queries, block.keys] += 1
    assert (seen == 1).all()
